"""What an export is made of: a model that was trained, its tokens, and what is known of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ehr_bert.errors import UserError
from ehr_bert.export.account import Account, read_account
from ehr_bert.files import read_json
from ehr_bert.model.pretraining import PretrainingModel
from ehr_bert.training.record.checkpoints import read_weights, step_of
from ehr_bert.training.record.folder import TrainingFolder, load_model
from ehr_bert.vocabulary import Vocabulary
from ehr_bert.weights.names import split_heads


@dataclass(frozen=True)
class Trained:
    """A model to export.

    Attributes:
        name: What it is called; no path.
        model: The Keras model, in float32.
        vocabulary: The tokens that it was trained with.
        mask_id: The id that hid a code.
        cls_id: The id that stood before each patient, if one did.
        examples: TFRecord files that it was trained on, as far as they are where they were.
        account: How it was trained.
        heads: Weights of heads that stock BERT does not have, by name, as Keras lays them out.
    """

    name: str
    model: PretrainingModel
    vocabulary: Vocabulary
    mask_id: int
    cls_id: int | None
    examples: tuple[Path, ...]
    account: Account
    heads: Mapping[str, np.ndarray] = field(default_factory=dict)


def read_training(checkpoint: Path, vocabulary_file: Path | None = None) -> Trained:
    """A training's model.

    Args:
        checkpoint: The prefix `folder/model.ckpt-<step>` in a training folder.
        vocabulary_file: The vocabulary, where the training folder holds none, or one without counts.

    Raises:
        UserError: a file is missing, or the vocabulary is another's.
    """
    folder = TrainingFolder(checkpoint.parent)
    vocabulary = _vocabulary(folder, vocabulary_file)
    conventions = read_json(folder.examples_file)
    return Trained(
        name=checkpoint.name,
        model=load_model(checkpoint),
        vocabulary=vocabulary,
        mask_id=conventions["mask_id"],
        cls_id=conventions["cls_id"],
        examples=tuple(path for path in map(Path, conventions.get("paths", [])) if path.exists()),
        account=read_account(folder, step_of(checkpoint.name)),
        heads=split_heads(read_weights(checkpoint))[1],
    )


def _vocabulary(folder: TrainingFolder, file: Path | None) -> Vocabulary:
    own = folder.vocabulary()
    named = Vocabulary.read(file) if file else own
    if named is None:
        raise UserError(f"{folder.path} has no vocabulary: name the one it was trained with (--vocab_file)")
    if own and own.sha256 != named.sha256:
        raise UserError(f"{file} is not the vocabulary that {folder.path} was trained with: leave it out")
    return named
