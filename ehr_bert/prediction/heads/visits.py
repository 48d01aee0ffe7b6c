"""Pooling of token vectors by visit, for heads that read a history as a series of visits."""

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from ehr_bert.prediction.batches import PaddedBatch
from ehr_bert.prediction.heads.head import Head


def visit_vectors(hidden: torch.Tensor, batch: PaddedBatch) -> torch.Tensor:
    """Return the mean token vector of each visit, 0 after the last visit of a history.

    Args:
        hidden: Token vectors: `[B, T, H]`.
        batch: The histories, with the visit of each token.

    Returns:
        `[B, K, H]`, where K is the largest number of visits of a history, at least 1.
    """
    histories, _, size = hidden.shape
    slots = max(int(batch.visits.max()), 1) + 1  # The first slot takes [CLS] and padding.
    first_slot = torch.arange(histories, device=hidden.device)[:, None] * slots
    slot = (first_slot + batch.visit_ids).flatten()  # [B * T]
    summed = hidden.new_zeros(histories * slots, size).index_add(0, slot, hidden.flatten(0, 1))
    counts = torch.bincount(slot, minlength=histories * slots).clamp(min=1)
    return (summed / counts[:, None].to(hidden.dtype)).unflatten(0, (histories, slots))[:, 1:]


class VisitSeriesHead(Head):
    """Base class of the heads that read the vectors of the visits."""

    reads_visits = True

    def reduce(self, hidden: torch.Tensor, batch: PaddedBatch) -> torch.Tensor:
        """Return the vector of each visit: `[B, K, H]`."""
        return visit_vectors(hidden, batch)


def pack_visits(vectors: torch.Tensor, visits: torch.Tensor) -> PackedSequence:
    """Pack visit vectors `[B, K, H]` for a recurrent layer. An empty history has one visit of zeros."""
    return pack_padded_sequence(vectors, visits.clamp(min=1), batch_first=True, enforce_sorted=False)


def visit_states(gru: nn.GRU, packed: PackedSequence) -> torch.Tensor:
    """Return the state of a GRU at each visit: `[B, K, H]`."""
    return pad_packed_sequence(gru(packed)[0], batch_first=True)[0]
