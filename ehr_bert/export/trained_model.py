"""The input of an export: a trained model, its tokens, and facts about its training run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ehr_bert.errors import UserError
from ehr_bert.export.training_facts import TrainingFacts, read_training_facts
from ehr_bert.files import read_json
from ehr_bert.model.pretraining import PretrainingModel
from ehr_bert.training.record.checkpoints import read_weights, step_of
from ehr_bert.training.record.folder import TrainingFolder, load_model
from ehr_bert.vocabulary import Vocabulary
from ehr_bert.weights.names import separate_additional_heads


@dataclass(frozen=True)
class TrainedModel:
    """A model to export.

    Attributes:
        name: Name of the checkpoint, without a path.
        model: The Keras model, in float32.
        vocabulary: The tokens that it was trained with.
        mask_id: Id of the token that replaced masked codes.
        cls_id: Id of the token before each patient, None if there was none.
        examples: TFRecord files of the training run that still exist.
        facts: Facts about the training run.
        heads: Weights of heads that stock BERT does not have, by name, in the layout of Keras.
    """

    name: str
    model: PretrainingModel
    vocabulary: Vocabulary
    mask_id: int
    cls_id: int | None
    examples: tuple[Path, ...]
    facts: TrainingFacts
    heads: Mapping[str, np.ndarray] = field(default_factory=dict)


def read_trained_model(checkpoint: Path, vocabulary_file: Path | None = None) -> TrainedModel:
    """Read a checkpoint of a training folder.

    Args:
        checkpoint: The prefix `folder/model.ckpt-<step>` in a training folder.
        vocabulary_file: The vocabulary, if the training folder has none or only one without counts.

    Raises:
        UserError: There is no vocabulary (key `missing-vocabulary`), or `vocabulary_file` is not that of the
            training run (`other-vocabulary`).
    """
    folder = TrainingFolder(checkpoint.parent)
    vocabulary = _vocabulary(folder, vocabulary_file)
    conventions = read_json(folder.examples_file)
    return TrainedModel(
        name=checkpoint.name,
        model=load_model(checkpoint),
        vocabulary=vocabulary,
        mask_id=conventions["mask_id"],
        cls_id=conventions["cls_id"],
        examples=tuple(path for path in map(Path, conventions.get("paths", [])) if path.exists()),
        facts=read_training_facts(folder, step_of(checkpoint.name)),
        heads=separate_additional_heads(read_weights(checkpoint))[1],
    )


def _vocabulary(folder: TrainingFolder, file: Path | None) -> Vocabulary:
    recorded = folder.vocabulary()
    vocabulary = Vocabulary.read(file) if file else recorded
    if vocabulary is None:
        raise UserError(
            "missing-vocabulary",
            f"{folder.path} has no vocabulary. Name the vocabulary of the training run with --vocab-file "
            "(--vocab_file in the tutorial).",
        )
    if recorded and recorded.sha256 != vocabulary.sha256:
        raise UserError(
            "other-vocabulary",
            f"{file} is not the vocabulary that {folder.path} was trained with. Omit --vocab-file.",
        )
    return vocabulary
