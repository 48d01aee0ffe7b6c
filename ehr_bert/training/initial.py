"""The first weights of a training that continues from a model, whatever form that one comes in."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ehr_bert.errors import UserError
from ehr_bert.examples.facts import PackedFacts
from ehr_bert.examples.sidecars import find_sidecar
from ehr_bert.files import read_json
from ehr_bert.model.config import ModelConfig
from ehr_bert.model.pretraining import PretrainingModel
from ehr_bert.schemas import is_context
from ehr_bert.training.record.checkpoints import newest_checkpoint, read_weights
from ehr_bert.training.record.folder import TrainingFolder
from ehr_bert.vocabulary import Vocabulary
from ehr_bert.weights.hugging_face import is_hugging_face, read_hugging_face
from ehr_bert.weights.matching import (
    NEW,
    NewCodes,
    RowMatching,
    fitted_weights,
    match_rows,
    same_rows,
)
from ehr_bert.weights.pretrained import Pretrained, shown
from ehr_bert.weights.tensorflow1 import is_tensorflow1, pretrained_tensorflow1

MADE_AS = {
    "category": "the mean of their category's",
    "mean": "the mean of all codes'",
    "random": "random",
}
"""What the rows of new codes are, for each of `NewCodes`."""


def read_pretrained(path: Path, config_file: Path | None = None) -> Pretrained:
    """Reads a model.

    Args:
        path: A training folder, for its newest checkpoint; `folder/best` or `folder/model.ckpt-<step>`; an
            export folder, or any Hugging Face folder of BERT; or the prefix of a TensorFlow 1 checkpoint.
        config_file: The config of a TensorFlow 1 checkpoint, where none lies beside it.

    Raises:
        UserError: `path` is none of these, or damaged.
    """
    if is_hugging_face(path):
        return read_hugging_face(path)
    try:
        prefix = Path(newest_checkpoint(path))
    except UserError:
        raise UserError(
            f"{path} holds no checkpoint, nor a Hugging Face model: name a training folder or a checkpoint "
            "in one, an export or another Hugging Face folder, or the prefix of a TensorFlow 1 checkpoint"
        ) from None
    if is_tensorflow1(prefix):
        return pretrained_tensorflow1(prefix, config_file)
    folder = TrainingFolder(prefix.parent)
    conventions = read_json(folder.examples_file)
    return Pretrained(
        config=folder.config(),
        weights=read_weights(prefix),
        source=prefix,
        vocabulary=folder.vocabulary(),
        mask_id=conventions["mask_id"],
        cls_id=conventions["cls_id"],
    )


def takes_shape(asked: ModelConfig) -> bool:
    """Whether a recipe leaves the model's shape to the parent: it states none, but for the `vocab_size`."""
    return dataclasses.replace(asked, vocab_size=None) == ModelConfig()


def inherited_shape(asked: ModelConfig, parent: Pretrained, vocabulary: Vocabulary | None) -> ModelConfig:
    """The shape of a model that begins with another.

    Args:
        asked: As the recipe states it.
        parent: The other.
        vocabulary: The tokens of the examples, if they are known.

    Returns:
        The parent's shape if the recipe states none; with the parent's rows, where they mean the same as
        before. `vocab_size` is None if the vocabulary decides.
    """
    vocab_size = asked.vocab_size
    if vocab_size is None and same_rows(parent, vocabulary):
        vocab_size = parent.config.vocab_size
    return dataclasses.replace(parent.config if takes_shape(asked) else asked, vocab_size=vocab_size)


@dataclass(frozen=True)
class UnknownCodes:
    """Shares of a corpus' codes that a vocabulary lacks, each code counted as often as visits hold it.

    Attributes:
        before: By the parent's vocabulary.
        after: By that of the examples.
    """

    before: float
    after: float


@dataclass(frozen=True)
class Initialisation:
    """How a model began with another's weights.

    Attributes:
        parent: The other.
        matching: Of their rows.
        new_codes: What the rows of new codes began as.
        unknown: Shares of unknown codes; None where a vocabulary or its counts are unknown.
    """

    parent: Pretrained
    matching: RowMatching
    new_codes: NewCodes
    unknown: UnknownCodes | None

    def __str__(self) -> str:
        parent, matching = self.parent, self.matching
        rows, kept = len(matching.rows), int((matching.rows != NEW).sum())
        by_number = "" if matching.tokens else ", by number: a vocabulary is not known on both sides"
        lines = [f"first weights from {parent.source}: {kept:,} of {rows:,} tokens keep its rows{by_number}"]
        if new := matching.new:
            made = MADE_AS[self.new_codes]
            lines.append(f"{len(new):,} codes are new to it, such as {new[0]}: their rows are {made}")
        if matching.dropped:
            lines.append(f"{matching.dropped:,} of its codes are not in the vocabulary")
        if unknown := self.unknown:
            lines.append(
                f"unknown codes: {unknown.before:.2%} of the corpus by its vocabulary, "
                f"{unknown.after:.2%} by this one"
            )
        if parent.lacking:
            lines.append(f"random, for it has none: {shown(parent.lacking)}")
        if parent.left_out:
            lines.append(f"left out: {shown(parent.left_out)}")
        return "\n  ".join(lines)


def initialise_from(
    parent: Pretrained,
    model: PretrainingModel,
    vocabulary: Vocabulary | None,
    mask_id: int | None,
    cls_id: int | None,
    new_codes: NewCodes,
    files: Iterable[Path],
) -> Initialisation:
    """Sets the weights of a model to those of another, as far as that has them.

    Args:
        parent: The other.
        model: With random weights.
        vocabulary: The model's tokens, if they are known.
        mask_id: The id that hides a code in its examples.
        cls_id: The id that leads each patient in them.
        new_codes: What the rows of new codes begin as.
        files: TFRecord files to train on, for the share of unknown codes.

    Raises:
        UserError: the models' shapes don't fit together.
    """
    config = model.config
    variables = {variable.path.partition("/")[2]: variable for variable in model.trainable_variables}
    matching = match_rows(parent, vocabulary, config.vocab_size or 0, mask_id, cls_id)
    own = {name: variable.numpy() for name, variable in variables.items()}
    for name, value in fitted_weights(parent, config, matching, new_codes, own).items():
        variables[name].assign(value)
    return Initialisation(parent, matching, new_codes, _unknown_codes(vocabulary, matching, files))


def _unknown_codes(
    vocabulary: Vocabulary | None, matching: RowMatching, files: Iterable[Path]
) -> UnknownCodes | None:
    if vocabulary is None or not matching.tokens:
        return None
    counts = dict(zip(vocabulary.tokens, vocabulary.occurrences, strict=True))
    codes = sum(counts[vocabulary.tokens[code]] for code in vocabulary.code_ids)
    if not codes:
        return None
    missing = sum(counts[code] for code in matching.new) / codes
    after = _unknown_share(files, sum(count for token, count in counts.items() if is_context(token)))
    return UnknownCodes(before=after + (1 - after) * missing, after=after)


def _unknown_share(files: Iterable[Path], context: int) -> float:
    """The share of `[UNK]` among the codes of packed windows, of which `context` tokens are none; else 0.

    What is neither a code, nor a `[CLS]` (one a patient), nor context is `[UNK]`.
    """
    facts = [sidecar.files[file.name] for file in files if (sidecar := find_sidecar(file))]
    packed = [each for each in facts if isinstance(each, PackedFacts)]
    codes = sum(each.codes for each in packed)
    unknown = max(0, sum(each.real_tokens - each.patients - each.codes for each in packed) - context)
    return unknown / (codes + unknown) if codes else 0.0
