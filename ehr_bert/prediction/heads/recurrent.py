"""Recurrent heads over the visits of a history."""

import torch
from torch import nn

from ehr_bert.prediction.heads.head import DROPOUT
from ehr_bert.prediction.heads.visits import VisitSeriesHead, pack_visits


class GruHead(VisitSeriesHead):
    """A linear layer on the last state of a GRU over the visits.

    Args:
        hidden_size: H, also the size of the GRU's states, of both directions together.
        outputs: O.
        bidirectional: Whether a second GRU reads the visits from the last to the first.
    """

    def __init__(self, hidden_size: int, outputs: int, bidirectional: bool = False) -> None:
        super().__init__(hidden_size, outputs)
        size = hidden_size // (2 if bidirectional else 1)
        self.gru = nn.GRU(hidden_size, size, batch_first=True, bidirectional=bidirectional)
        self.dropout = nn.Dropout(DROPOUT)
        self.linear = nn.Linear(size * (2 if bidirectional else 1), outputs)

    def predict(self, reduced: torch.Tensor, visits: torch.Tensor) -> torch.Tensor:
        """Return the logits `[B, O]` of visit vectors `[B, K, H]`."""
        _, last = self.gru(pack_visits(reduced, visits))  # [directions, B, H / directions]
        return self.linear(self.dropout(last.transpose(0, 1).flatten(1)))


class BiGruHead(GruHead):
    """A linear layer on the last states of a bidirectional GRU over the visits."""

    def __init__(self, hidden_size: int, outputs: int) -> None:
        super().__init__(hidden_size, outputs, bidirectional=True)
