"""What a frozen encoder gives a head, computed once and read in every epoch."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from ehr_bert.prediction.batches import PaddedBatch, collate, rows_by_length
from ehr_bert.prediction.reading import Encoded
from ehr_bert.ragged import offsets_of, spans, starts_of

if TYPE_CHECKING:
    from ehr_bert.prediction.predictor import Predictor


@dataclass(frozen=True)
class FrozenBatch:
    """What a head reads of `B` histories.

    Attributes:
        values: `[B, H]`, or `[B, V, H]` for a head that reads visits.
        rows: Which of the histories these are: int64 `[B]`, on the CPU.
        visits: Visits of each: int64 `[B]`, on the CPU.
    """

    values: torch.Tensor
    rows: torch.Tensor
    visits: torch.Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def to(self, device: torch.device) -> "FrozenBatch":
        """The batch where a model is."""
        return replace(self, values=self.values.to(device, non_blocking=True))


@dataclass(frozen=True)
class FrozenVectors:
    """What a head reads of `N` histories, `L` vectors in all: one a history, or one a visit.

    Attributes:
        vectors: float32 `[L, H]`.
        offsets: Where each history's vectors begin, and the end: int64 `[N + 1]`.
        visits: Visits of each history: int64 `[N]`.
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
        """Vectors of each history: int64 `[N]`."""
        return np.diff(self.offsets)

    def take(self, rows: np.ndarray) -> "FrozenVectors":
        """Some histories, in the order of `rows`: int64 `[M]`, or bool `[N]`."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        lengths = self.lengths[rows]
        return FrozenVectors(
            vectors=self.vectors[spans(self.offsets[rows], lengths)],
            offsets=offsets_of(lengths),
            visits=self.visits[rows],
            by_visit=self.by_visit,
        )

    def batch(self, rows: np.ndarray) -> FrozenBatch:
        """The batch of some histories: `rows` is int64 `[B]`."""
        lengths = self.lengths[rows]
        vectors = self.vectors[spans(self.offsets[rows], lengths)]
        if self.by_visit:
            mask = np.arange(lengths.max()) < lengths[:, None]  # [B, V]
            padded = np.zeros((*mask.shape, vectors.shape[1]), vectors.dtype)
            padded[mask] = vectors
            vectors = padded
        return FrozenBatch(
            torch.from_numpy(vectors), torch.from_numpy(rows), torch.from_numpy(self.visits[rows])
        )


PredictorInputs = Encoded | FrozenVectors
"""Histories, or what a frozen encoder made of them."""


def batch_of(inputs: PredictorInputs, rows: np.ndarray) -> PaddedBatch | FrozenBatch:
    """The batch of some histories: `rows` is int64 `[B]`."""
    return inputs.batch(rows) if isinstance(inputs, FrozenVectors) else collate(inputs, rows)


@torch.inference_mode()
def frozen_vectors(predictor: "Predictor", encoded: Encoded, batch_tokens: int) -> FrozenVectors:
    """What the head will read as long as the encoder stays as it is.

    Args:
        predictor: Its dropout is off here.
        encoded: `N` histories.
        batch_tokens: Tokens that are computed at a time.
    """
    predictor.eval()
    batches = rows_by_length(encoded.lengths, batch_tokens)
    found, visits = [], np.zeros(len(encoded), np.int64)
    by_visit = False
    for rows in batches:
        batch = collate(encoded, rows)
        there = batch.to(predictor.device)
        values = predictor.head.reduce(predictor.encoder(there), there).float().cpu()  # [B, H] or [B, V, H]
        by_visit = values.dim() == 3
        visits[rows] = batch.visits
        if by_visit:
            real = torch.arange(values.shape[1]) < batch.visits[:, None].clamp(min=1)  # [B, V]
            values = values[real]
        found.append(values.numpy())
    order = np.concatenate(batches)
    lengths = np.maximum(visits, 1) if by_visit else np.ones(len(encoded), np.int64)
    sorted_starts = starts_of(lengths[order])
    starts = np.empty(len(encoded), np.int64)
    starts[order] = sorted_starts
    vectors = np.concatenate(found)[spans(starts, lengths)]
    return FrozenVectors(vectors, offsets_of(lengths), visits, by_visit)
