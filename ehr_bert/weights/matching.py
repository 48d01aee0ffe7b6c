"""Weights for another vocabulary: rows are matched by token, and new rows are computed from old ones.

The parent is the model to initialise from. Shapes: V rows of the new table, Q rows of the parent's table, H
hidden size.
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
"""How rows of new codes are initialised: with the mean of the parent's codes of the same category (of all
codes if there are none), with the mean of all its codes, or with random values."""

TOKEN_EMBEDDINGS, OUTPUT_BIAS = "encoder/embeddings/tokens/embeddings", "masked_codes/bias"
"""Weights with one row per token."""

SIZE_KEYS = {
    "encoder/embeddings/positions/embeddings": "max_position_embeddings",
    "encoder/embeddings/visits/embeddings": "type_vocab_size",
}
"""Tables of which a smaller model gets the first rows, and the keys of their size."""

SHAPE_KEYS = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "layer_norm_eps",
)
"""Keys of a config that must be equal in a model and its parent."""

NEW = -1
"""Marks a row that is not in the parent."""


@dataclass(frozen=True)
class RowMatching:
    """Match of the rows of a new table with rows of the parent's table.

    Attributes:
        rows: Row of the parent for each row, or `NEW`. int64 `[V]`.
        tokens: Token of each row, V strings.
        parent_tokens: Token of each row of the parent, Q strings.
        parent_codes: Rows of the parent for codes and context tokens. int64.
        new: Codes that are not in the parent's vocabulary.
        dropped: Number of the parent's codes that are not in the new vocabulary.
    """

    rows: np.ndarray
    tokens: tuple[str, ...]
    parent_tokens: tuple[str, ...]
    parent_codes: np.ndarray
    new: tuple[str, ...]
    dropped: int


def row_names(vocabulary: Vocabulary, rows: int) -> tuple[str, ...]:
    """Return the tokens of a table with `rows` rows. Rows past the vocabulary are `[unused<row>]`."""
    unused = (f"[unused{row}]" for row in range(len(vocabulary), rows))
    return tuple(islice((*vocabulary.tokens, *unused), rows))


def same_rows(parent: Pretrained, vocabulary: Vocabulary | None) -> bool:
    """Return whether each row has the same token in the parent, if both vocabularies are known."""
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
    """Match rows by token, or by id if a vocabulary is unknown.

    The rows of `mask_id` and `cls_id` are matched to the rows with the same role in the parent, whatever
    their tokens.

    Args:
        parent: Model to initialise from.
        vocabulary: New tokens.
        vocab_size: Number of rows V. May exceed the vocabulary.
        mask_id: Id of masked codes in the new examples.
        cls_id: Id at the start of each patient in the new examples.

    Raises:
        UserError: Rows are matched by id, but the parent has fewer (key `missing-vocabulary`).
    """
    parent_rows = parent.config.vocab_size or 0  # Q
    if parent.vocabulary is None or vocabulary is None:
        if vocab_size > parent_rows:
            raise UserError(
                "missing-vocabulary",
                f"{parent.source} has {parent_rows:,} tokens, but the model has {vocab_size:,}. They cannot "
                "be matched unless both vocabularies are known. Add a vocab.txt to its folder.",
            )
        return RowMatching(np.arange(vocab_size), (), (), np.arange(0), (), 0)
    tokens, parent_tokens = row_names(vocabulary, vocab_size), row_names(parent.vocabulary, parent_rows)
    row_of = {token: row for row, token in enumerate(parent_tokens)}
    rows = np.array([row_of.get(token, NEW) for token in tokens], np.int64)
    for new_id, parent_id in ((mask_id, parent.mask_id), (cls_id, parent.cls_id)):
        if new_id is not None and parent_id is not None and parent_id < parent_rows:
            rows[new_id] = parent_id
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
    initial: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Return the parent's weights for a model with another vocabulary and windows of at most the same length.

    Matched rows are copied unchanged. Weights that the parent does not have, such as a head, are left out.

    Args:
        parent: Model to initialise from.
        config: Shape of the new model.
        matching: Matching of the rows.
        new_codes: How rows of new codes are initialised.
        initial: Random weights of the new model, by the same names.

    Raises:
        UserError: The shapes do not fit (key `shape-mismatch`).
    """
    check_shapes(parent, config)
    fitted = {}
    for name, value in parent.weights.items():
        if name in (TOKEN_EMBEDDINGS, OUTPUT_BIAS):
            value = _token_rows(value, matching, new_codes, initial[name])
        elif name in SIZE_KEYS:
            value = value[: len(initial[name])]
        if value.shape != initial[name].shape:
            raise UserError(
                "shape-mismatch",
                f"{name} in {parent.source} has shape {list(value.shape)} instead of "
                f"{list(initial[name].shape)}. Correct its config.",
            )
        fitted[name] = value
    return fitted


def check_shapes(parent: Pretrained, config: ModelConfig) -> None:
    """Refuse a model that the parent's weights do not fit, or that would compute other values with them.

    Raises:
        UserError: The shapes differ (key `shape-mismatch`). The message lists all differing keys.
    """
    differing = [
        f"{key} {parent_value} instead of {value}"
        for key in (*SHAPE_KEYS, *SIZE_KEYS.values())
        if (parent_value := getattr(parent.config, key)) != (value := getattr(config, key))
        and not (key in SIZE_KEYS.values() and value < parent_value)
    ]
    if differing:
        raise UserError(
            "shape-mismatch",
            f"{parent.source} has {', '.join(differing)}. Remove [model] from the recipe to take the shape "
            "of that model, or set the same values.",
        )


def _token_rows(
    values: np.ndarray, matching: RowMatching, new_codes: NewCodes, initial: np.ndarray
) -> np.ndarray:
    """Fill a copy of `initial`, `[V, H]` or `[V]`, with rows computed from `values`, `[Q, H]` or `[Q]`."""
    is_matched = matching.rows != NEW  # [V]
    filled = initial.copy()
    filled[is_matched] = values[matching.rows[is_matched]]
    if new_codes != "random" and not is_matched.all():
        new = [matching.tokens[row] for row in np.flatnonzero(~is_matched)]
        filled[~is_matched] = _means(values, matching, new if new_codes == "category" else [""] * len(new))
    return filled


def _means(values: np.ndarray, matching: RowMatching, new: Sequence[str]) -> np.ndarray:
    """Return the mean of the parent's rows under the nearest common heading, per new token."""
    below: dict[str, list[int]] = defaultdict(list)
    codes = [int(row) for row in matching.parent_codes]
    for row in codes:
        for heading in _headings(matching.parent_tokens[row]):
            below[heading].append(row)
    below[""] = [row for row in codes if not is_context(matching.parent_tokens[row])]
    nearest = [next((heading for heading in _headings(token) if heading in below), "") for token in new]
    groups = {heading: number for number, heading in enumerate(dict.fromkeys(nearest))}
    sizes = np.array([len(below[heading]) for heading in groups])
    members = np.concatenate([below[heading] for heading in groups])
    sums = np.add.reduceat(values[members], np.cumsum(sizes) - sizes, dtype=np.float64)
    means = (sums.T / sizes).T  # one row per group
    return means[[groups[heading] for heading in nearest]]


def _headings(token: str) -> Iterator[str]:
    """Yield a token and the headings above it, nearest first. The heading of a context token is its kind."""
    yield token
    if is_context(token):
        yield token.partition("_")[0]
    yield from ancestors(token)
