"""Initialisation from another model, such as a training run, an export or a TensorFlow 1 checkpoint."""

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
from ehr_bert.weights.names import is_additional_head, separate_additional_heads
from ehr_bert.weights.pretrained import Pretrained, list_names
from ehr_bert.weights.tensorflow1 import is_tensorflow1, pretrained_tensorflow1

NEW_CODE_ROWS = {
    "category": "the mean of their category",
    "mean": "the mean of all codes",
    "random": "random values",
}
"""Initial embedding of new codes, for each value of `NewCodes`."""


def read_pretrained(path: Path, config_file: Path | None = None) -> Pretrained:
    """Read a model to initialise from.

    Args:
        path: A training folder, for its newest checkpoint; `folder/best` or `folder/model.ckpt-<step>`; an
            export folder or another Hugging Face folder of BERT; or the prefix of a TensorFlow 1 checkpoint.
        config_file: Config of a TensorFlow 1 checkpoint. If None, the one next to it.

    Raises:
        UserError: `path` is none of these (key `no-checkpoint`), or damaged.
    """
    if is_hugging_face(path):
        return read_hugging_face(path)
    try:
        prefix = Path(newest_checkpoint(path))
    except UserError:
        raise UserError(
            "no-checkpoint",
            f"{path} has no checkpoint and no Hugging Face model. Name a training folder or a checkpoint in "
            "one, an export or another Hugging Face folder, or the prefix of a TensorFlow 1 checkpoint.",
        ) from None
    if is_tensorflow1(prefix):
        return pretrained_tensorflow1(prefix, config_file)
    folder = TrainingFolder(prefix.parent)
    conventions = read_json(folder.examples_file)
    weights, heads = separate_additional_heads(read_weights(prefix))
    return Pretrained(
        config=folder.config(),
        weights=weights,
        heads=heads,
        source=prefix,
        vocabulary=folder.vocabulary(),
        mask_id=conventions["mask_id"],
        cls_id=conventions["cls_id"],
    )


def takes_shape(requested: ModelConfig) -> bool:
    """Return whether the model takes the shape of its parent: the recipe sets at most `vocab_size`."""
    return dataclasses.replace(requested, vocab_size=None) == ModelConfig()


def inherited_shape(requested: ModelConfig, parent: Pretrained, vocabulary: Vocabulary | None) -> ModelConfig:
    """Return the shape of a model that is initialised from `parent`.

    Args:
        requested: Shape in the recipe.
        parent: Model to initialise from.
        vocabulary: Tokens of the examples, if they are known.

    Returns:
        The shape of the parent if the recipe has none. `vocab_size` is that of the parent if its rows keep
        their meaning, and None if the vocabulary determines it.
    """
    vocab_size = requested.vocab_size
    if vocab_size is None and same_rows(parent, vocabulary):
        vocab_size = parent.config.vocab_size
    return dataclasses.replace(parent.config if takes_shape(requested) else requested, vocab_size=vocab_size)


@dataclass(frozen=True)
class UnknownCodes:
    """Shares of a corpus's codes that are not in a vocabulary, weighted by their visits.

    Attributes:
        before: Share with the parent's vocabulary.
        after: Share with the vocabulary of the examples.
    """

    before: float
    after: float


@dataclass(frozen=True)
class Initialisation:
    """Record of the initialisation of a model from another one.

    Attributes:
        parent: Model that it was initialised from.
        matching: Matching of the embedding rows of both models.
        new_codes: How the rows of new codes were initialised.
        unknown: Shares of unknown codes. None if a vocabulary or its counts are unknown.
        random: Weights that the parent does not have.
        unused_heads: Weights of the parent's heads that the model does not have.
    """

    parent: Pretrained
    matching: RowMatching
    new_codes: NewCodes
    unknown: UnknownCodes | None
    random: tuple[str, ...]
    unused_heads: tuple[str, ...]

    def __str__(self) -> str:
        parent, matching = self.parent, self.matching
        rows, kept = len(matching.rows), int((matching.rows != NEW).sum())
        by_id = "" if matching.tokens else ", matched by id because a vocabulary is unknown"
        lines = [f"initialised from {parent.source}: {kept:,} of {rows:,} tokens keep their embedding{by_id}"]
        if new := matching.new:
            lines.append(
                f"{len(new):,} new codes, such as {new[0]}, start from {NEW_CODE_ROWS[self.new_codes]}"
            )
        if matching.dropped:
            lines.append(f"{matching.dropped:,} codes of that model are not in the vocabulary")
        if unknown := self.unknown:
            lines.append(
                f"unknown codes in the corpus: {unknown.before:.2%} with the vocabulary of that model, "
                f"{unknown.after:.2%} with this one"
            )
        if self.random:
            lines.append(f"missing in that model and initialised at random: {list_names(self.random)}")
        if unused := (*parent.left_out, *self.unused_heads):
            lines.append(f"not used: {list_names(unused)}")
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
    """Set the weights of `model` to those of `parent`. Weights that the parent does not have stay random.

    Args:
        parent: Model to initialise from.
        model: Model with random weights.
        vocabulary: Tokens of the model, if they are known.
        mask_id: Id of masked codes in the examples.
        cls_id: Id at the start of each patient in the examples.
        new_codes: How the rows of new codes are initialised.
        files: TFRecord files to train on, for the share of unknown codes.

    Raises:
        UserError: The shapes of the models do not fit (key `shape-mismatch`), or rows cannot be matched
            (`missing-vocabulary`).
    """
    config = model.config
    variables = {variable.path.partition("/")[2]: variable for variable in model.trainable_variables}
    matching = match_rows(parent, vocabulary, config.vocab_size or 0, mask_id, cls_id)
    initial = {name: variable.numpy() for name, variable in variables.items()}
    for name, value in fitted_weights(parent, config, matching, new_codes, initial).items():
        variables[name].assign(value)
    fitting = {
        name for name, value in parent.heads.items() if name in initial and initial[name].shape == value.shape
    }
    for name in fitting:
        variables[name].assign(parent.heads[name])
    additional = {name for name in initial if is_additional_head(name)}
    return Initialisation(
        parent,
        matching,
        new_codes,
        _unknown_codes(vocabulary, matching, files),
        random=(*parent.missing, *sorted(additional - fitting)),
        unused_heads=tuple(sorted(parent.heads.keys() - fitting)),
    )


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
    """Return the share of `[UNK]` among the codes of packed windows. It is 0 for tutorial examples.

    A token that is not a code, not a `[CLS]` (one per patient) and not one of `context` context tokens is
    `[UNK]`.
    """
    facts = [sidecar.files[file.name] for file in files if (sidecar := find_sidecar(file))]
    packed = [file_facts for file_facts in facts if isinstance(file_facts, PackedFacts)]
    codes = sum(file_facts.codes for file_facts in packed)
    other = sum(file_facts.real_tokens - file_facts.patients - file_facts.codes for file_facts in packed)
    unknown = max(0, other - context)
    return unknown / (codes + unknown) if codes else 0.0
