"""Vectors of a frozen encoder that a head reads, computed once and used in every epoch."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from ehr_bert.prediction.batches import PaddedBatch, collate, rows_by_length
from ehr_bert.prediction.encoders import HistoryEncoder
from ehr_bert.prediction.heads.head import Head
from ehr_bert.prediction.reading import Encoded
from ehr_bert.ragged import offsets_of, spans, starts_of


@dataclass(frozen=True)
class FrozenBatch:
    """The pooled vectors of `B` histories.

    Attributes:
        values: `[B, H]`, or `[B, K, H]` for a head that reads visits.
        rows: Rows of these histories: int64 `[B]`, on the CPU.
        visits: Number of visits of each history: int64 `[B]`, on the CPU.
    """

    values: torch.Tensor
    rows: torch.Tensor
    visits: torch.Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def to(self, device: torch.device) -> "FrozenBatch":
        """Return the batch with its vectors on a device."""
        return replace(self, values=self.values.to(device, non_blocking=True))


@dataclass(frozen=True)
class FrozenVectors:
    """The pooled vectors of `N` histories, `L` vectors in all: one per history, or one per visit.

    Attributes:
        vectors: float32 `[L, H]`.
        offsets: First vector of each history, and the end: int64 `[N + 1]`.
        visits: Number of visits of each history: int64 `[N]`.
        by_visit: Whether the head reads visits.
    """

    vectors: np.ndarray
    offsets: np.ndarray
    visits: np.ndarray
    by_visit: bool

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> np.ndarray:
        """Number of vectors of each history: int64 `[N]`."""
        return np.diff(self.offsets)

    def take(self, rows: np.ndarray) -> "FrozenVectors":
        """Return some histories, in the order of `rows`: int64, or bool `[N]`."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        lengths = self.lengths[rows]
        return FrozenVectors(
            vectors=self.vectors[spans(self.offsets[rows], lengths)],
            offsets=offsets_of(lengths),
            visits=self.visits[rows],
            by_visit=self.by_visit,
        )

    def batch(self, rows: np.ndarray) -> FrozenBatch:
        """Return the batch of some histories: `rows` is int64 `[B]`."""
        lengths = self.lengths[rows]
        vectors = self.vectors[spans(self.offsets[rows], lengths)]
        if self.by_visit:
            mask = np.arange(lengths.max()) < lengths[:, None]  # [B, K]
            padded = np.zeros((*mask.shape, vectors.shape[1]), vectors.dtype)
            padded[mask] = vectors
            vectors = padded
        return FrozenBatch(
            torch.from_numpy(vectors), torch.from_numpy(rows), torch.from_numpy(self.visits[rows])
        )


PredictorInputs = Encoded | FrozenVectors
"""Histories, or the vectors that a frozen encoder computed from them."""


def batch_of(inputs: PredictorInputs, rows: np.ndarray) -> PaddedBatch | FrozenBatch:
    """Return the batch of some histories: `rows` is int64 `[B]`."""
    return inputs.batch(rows) if isinstance(inputs, FrozenVectors) else collate(inputs, rows)


@torch.inference_mode()
def frozen_vectors(encoder: HistoryEncoder, head: Head, encoded: Encoded, batch_tokens: int) -> FrozenVectors:
    """Compute the vectors that a head reads, which are valid until the encoder changes.

    Args:
        encoder: The encoder. Its dropout is turned off.
        head: The head that pools the vectors.
        encoded: `N` histories.
        batch_tokens: Maximum number of tokens that are computed at a time.
    """
    encoder.eval()
    device = encoder.token_embedding.weight.device
    batches = rows_by_length(encoded.lengths, batch_tokens)
    vectors, visits = [], np.zeros(len(encoded), np.int64)
    for rows in batches:
        batch = collate(encoded, rows)
        on_device = batch.to(device)
        pooled = head.reduce(encoder(on_device), on_device).float().cpu()  # [B, H] or [B, K, H]
        visits[rows] = batch.visits
        if head.reads_visits:
            is_visit = torch.arange(pooled.shape[1]) < batch.visits[:, None].clamp(min=1)  # [B, K]
            pooled = pooled[is_visit]
        vectors.append(pooled.numpy())
    order = np.concatenate(batches)
    lengths = np.maximum(visits, 1) if head.reads_visits else np.ones(len(encoded), np.int64)
    starts = np.empty(len(encoded), np.int64)
    starts[order] = starts_of(lengths[order])
    return FrozenVectors(
        vectors=np.concatenate(vectors)[spans(starts, lengths)],
        offsets=offsets_of(lengths),
        visits=visits,
        by_visit=head.reads_visits,
    )
