"""A model's weights for another vocabulary: rows are matched by token, and new ones made of old ones.

Legend: V rows of the new table, P rows of the parent's, H the width.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np

from ehr_bert.codes.headings import ancestors
from ehr_bert.errors import UserError
from ehr_bert.model.config import ModelConfig
from ehr_bert.schemas import is_context
from ehr_bert.vocabulary import Vocabulary
from ehr_bert.weights.pretrained import Pretrained

NewCodes = Literal["category", "mean", "random"]
"""What rows of new codes begin as: the mean of the parent's codes of the same category (of all codes, where
it has none), the mean of all its codes, or random values."""

TOKEN_EMBEDDINGS, OUTPUT_BIAS = "encoder/embeddings/tokens/embeddings", "masked_codes/bias"
"""The weights that have a row for each token."""

LONGEST = {
    "encoder/embeddings/positions/embeddings": "max_position_embeddings",
    "encoder/embeddings/visits/embeddings": "type_vocab_size",
}
"""The tables of which a smaller model takes the first rows, and the keys that tell their size."""

SHAPE_KEYS = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "layer_norm_eps",
)
"""The keys of a config in which a model and its parent must agree."""

NEW = -1
"""Stands for a row that the parent hasn't."""


@dataclass(frozen=True)
class RowMatching:
    """Which row of the parent's each row is.

    Attributes:
        rows: The parent's row, or `NEW`, int64 [V].
        tokens: The token of each row, V of them.
        parent_tokens: The token of each of the parent's rows, P of them.
        parent_codes: Those of its rows that stand for codes or context, int64.
        new: Codes that the parent lacks.
        dropped: How many of the parent's codes the vocabulary lacks.
    """

    rows: np.ndarray
    tokens: tuple[str, ...]
    parent_tokens: tuple[str, ...]
    parent_codes: np.ndarray
    new: tuple[str, ...]
    dropped: int


def row_names(vocabulary: Vocabulary, rows: int) -> tuple[str, ...]:
    """The tokens of a table with so many rows; those past the vocabulary are `[unused<row>]`."""
    unused = (f"[unused{row}]" for row in range(len(vocabulary), rows))
    return tuple(islice((*vocabulary.tokens, *unused), rows))


def same_rows(parent: Pretrained, vocabulary: Vocabulary | None) -> bool:
    """Whether the parent's rows can stay as they are: as far as is known, each means what it meant."""
    rows = parent.config.vocab_size or 0
    if vocabulary is None or len(vocabulary) > rows:
        return vocabulary is None
    return parent.vocabulary is None or row_names(vocabulary, rows) == row_names(parent.vocabulary, rows)


def match_rows(
    parent: Pretrained,
    vocabulary: Vocabulary | None,
    vocab_size: int,
    mask_id: int | None,
    cls_id: int | None,
) -> RowMatching:
    """Matches rows by token, or by number where either side's tokens are unknown.

    The rows that hide a code and lead a patient are those that did so in the parent, whatever their tokens.

    Args:
        parent: The model that another one begins with.
        vocabulary: The new tokens.
        vocab_size: V; may be more than the vocabulary has.
        mask_id: The id that hides a code in the new examples.
        cls_id: The id that leads each patient in them.

    Raises:
        UserError: rows are taken by number, and the parent has too few.
    """
    parent_rows = parent.config.vocab_size or 0  # P
    if parent.vocabulary is None or vocabulary is None:
        if vocab_size > parent_rows:
            raise UserError(
                f"{parent.source} has {parent_rows:,} tokens, {vocab_size:,} are asked for, and without a "
                "vocabulary on both sides they can't be matched: put its vocab.txt into it"
            )
        return RowMatching(np.arange(vocab_size), (), (), np.arange(0), (), 0)
    tokens, parent_tokens = row_names(vocabulary, vocab_size), row_names(parent.vocabulary, parent_rows)
    row_of = {token: row for row, token in enumerate(parent_tokens)}
    rows = np.array([row_of.get(token, NEW) for token in tokens], np.int64)
    for own, theirs in ((mask_id, parent.mask_id), (cls_id, parent.cls_id)):
        if own is not None and theirs is not None and theirs < parent_rows:
            rows[own] = theirs
    parent_codes = parent.vocabulary.code_ids
    context = [row for row, token in enumerate(parent_tokens) if is_context(token)]
    known = set(tokens)
    return RowMatching(
        rows=rows,
        tokens=tokens,
        parent_tokens=parent_tokens,
        parent_codes=np.append(parent_codes[parent_codes < parent_rows], np.array(context, np.int64)),
        new=tuple(tokens[code] for code in vocabulary.code_ids if rows[code] == NEW),
        dropped=sum(parent_tokens[row] not in known for row in parent_codes[parent_codes < parent_rows]),
    )


def fitted_weights(
    parent: Pretrained,
    config: ModelConfig,
    matching: RowMatching,
    new_codes: NewCodes,
    own: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """The parent's weights for a model of another vocabulary, and no longer windows.

    Kept rows are the parent's bit for bit. What the parent lacks, such as a head, is left out.

    Args:
        parent: The model that another one begins with.
        config: That one's shape.
        matching: Of their rows.
        new_codes: What rows of new codes begin as.
        own: The model's weights as they are, by the same names.

    Raises:
        UserError: the shapes don't fit.
    """
    check_shapes(parent, config)
    fitted = {}
    for name, value in parent.weights.items():
        if name in (TOKEN_EMBEDDINGS, OUTPUT_BIAS):
            value = _token_rows(value, matching, new_codes, own[name])
        elif name in LONGEST:
            value = value[: len(own[name])]
        if value.shape != own[name].shape:
            raise UserError(
                f"{parent.source}: {name} is {list(value.shape)}, not {list(own[name].shape)}: "
                "its config and its weights don't belong together"
            )
        fitted[name] = value
    return fitted


def check_shapes(parent: Pretrained, config: ModelConfig) -> None:
    """Refuses a model that can't take the parent's weights, or would compute something else with them.

    Raises:
        UserError: it differs, with all keys that do.
    """
    odd = [
        f"{key} {theirs}, not {ours}"
        for key in (*SHAPE_KEYS, *LONGEST.values())
        if (theirs := getattr(parent.config, key)) != (ours := getattr(config, key))
        and not (key in LONGEST.values() and ours < theirs)
    ]
    if odd:
        raise UserError(
            f"{parent.source} has {'; '.join(odd)}: leave [model] out of the recipe to take its shape, or "
            "state the same"
        )


def _token_rows(
    values: np.ndarray, matching: RowMatching, new_codes: NewCodes, own: np.ndarray
) -> np.ndarray:
    """`own`, [V, H] or [V], with the rows of the parent's `values`, [P, H] or [P], and those made of them."""
    kept = matching.rows != NEW  # [V]
    made = own.copy()
    made[kept] = values[matching.rows[kept]]
    if new_codes != "random" and not kept.all():
        new = [matching.tokens[row] for row in np.flatnonzero(~kept)]
        made[~kept] = _means(values, matching, new if new_codes == "category" else [""] * len(new))
    return made


def _means(values: np.ndarray, matching: RowMatching, new: Sequence[str]) -> np.ndarray:
    """For each new token the mean row of the parent's nearest relatives; of all its codes if it has none."""
    below: dict[str, list[int]] = defaultdict(list)
    codes = [int(row) for row in matching.parent_codes]
    for row in codes:
        for heading in _headings(matching.parent_tokens[row]):
            below[heading].append(row)
    below[""] = [row for row in codes if not is_context(matching.parent_tokens[row])]
    nearest = [next((each for each in _headings(token) if each in below), "") for token in new]
    groups = {heading: number for number, heading in enumerate(dict.fromkeys(nearest))}
    sizes = np.array([len(below[heading]) for heading in groups])
    members = np.concatenate([below[heading] for heading in groups])
    sums = np.add.reduceat(values[members], np.cumsum(sizes) - sizes, dtype=np.float64)
    means = (sums.T / sizes).T  # a row a group
    return means[[groups[heading] for heading in nearest]]


def _headings(token: str) -> Iterator[str]:
    """A token and the headings above it, the nearest first; a context token's is its kind."""
    yield token
    if is_context(token):
        yield token.partition("_")[0]
    yield from ancestors(token)
