"""Batches of histories of similar length, so that little padding is computed."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from ehr_bert.prediction.reading import Encoded
from ehr_bert.ragged import spans

POOL_BATCHES = 16
"""Number of batches whose shuffled histories are sorted by length together."""


@dataclass(frozen=True)
class PaddedBatch:
    """`B` histories, padded to `T` tokens.

    Attributes:
        token_ids: int64 `[B, T]`.
        visit_ids: 0 for `[CLS]` and padding: int64 `[B, T]`.
        attention_mask: False for padding: bool `[B, T]`.
        rows: Rows of these histories: int64 `[B]`, on the CPU.
        visits: Number of visits of each history: int64 `[B]`, on the CPU.
    """

    token_ids: torch.Tensor
    visit_ids: torch.Tensor
    attention_mask: torch.Tensor
    rows: torch.Tensor
    visits: torch.Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def to(self, device: torch.device) -> "PaddedBatch":
        """Return the batch with its tokens on a device."""
        names = ("token_ids", "visit_ids", "attention_mask")
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in names})


def collate(encoded: Encoded, rows: np.ndarray) -> PaddedBatch:
    """Return the batch of some histories: `rows` is int64 `[B]`."""
    lengths = encoded.lengths[rows]
    mask = np.arange(max(lengths.max(initial=0), 1)) < lengths[:, None]  # [B, T]
    tokens = spans(encoded.offsets[rows], lengths)
    token_ids = np.full(mask.shape, encoded.vocabulary.pad_id, np.int64)
    visit_ids = np.zeros(mask.shape, np.int64)
    token_ids[mask] = encoded.token_ids[tokens]
    visit_ids[mask] = encoded.visit_ids[tokens]
    return PaddedBatch(
        token_ids=torch.from_numpy(token_ids),
        visit_ids=torch.from_numpy(visit_ids),
        attention_mask=torch.from_numpy(mask),
        rows=torch.from_numpy(rows),
        visits=torch.from_numpy(visit_ids.max(axis=1)),
    )


def rows_by_length(lengths: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    """Divide all histories, sorted by length, into batches.

    Args:
        lengths: Number of tokens of each history: int64 `[N]`.
        batch_tokens: Maximum number of tokens of a batch, with padding. A longer history is a separate batch.

    Returns:
        The rows of each batch: int64 `[B]`.
    """
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        end = start + max(1, batch_tokens // max(int(lengths[order[start]]), 1))
        batches.append(order[start:end])
        start = end
    return batches


def shuffled_rows(lengths: np.ndarray, batch_examples: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Divide all histories into batches of similar length, in random order.

    Args:
        lengths: Number of tokens of each history: int64 `[N]`.
        batch_examples: Maximum number of histories of a batch. Batch sizes differ by at most one.
        rng: Random generator of the order.

    Returns:
        The rows of each batch: int64 `[B]`.
    """
    shuffled = rng.permutation(len(lengths))
    pool = np.arange(len(shuffled)) // (POOL_BATCHES * batch_examples)
    shuffled = shuffled[np.lexsort((lengths[shuffled], pool))]
    batches = np.array_split(shuffled, -(-len(shuffled) // batch_examples))
    return [batches[number] for number in rng.permutation(len(batches))]
