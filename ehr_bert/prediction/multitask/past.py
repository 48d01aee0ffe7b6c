"""Labels by visit: read from the visit and those before it, never from one after.

A later visit may tell a label of an earlier one: that it came at all, and how soon.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from ehr_bert.prediction.batches import PaddedBatch
from ehr_bert.prediction.encoders import HistoryEncoder
from ehr_bert.prediction.heads.head import DROPOUT
from ehr_bert.prediction.heads.visits import VisitSeriesHead


def past_mask(batch: PaddedBatch) -> torch.Tensor:
    """Which tokens each token attends to: those of its visit and earlier ones, bool `[B, 1, T, T]`."""
    visit_ids = batch.visit_ids
    not_later = visit_ids[:, None, :] <= visit_ids[:, :, None]  # [B, T, T], by query and key
    itself = torch.eye(visit_ids.shape[1], dtype=torch.bool, device=visit_ids.device)
    # Padding attends to itself, since a softmax over nothing isn't a number.
    return (not_later & batch.attention_mask[:, None, :] | itself)[:, None]


class PastEncoder(HistoryEncoder):
    """BERT whose tokens see nothing of later visits.

    Args:
        encoder: A `BertEncoder`, whose weights it shares.
    """

    def __init__(self, encoder: HistoryEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    @property
    def token_embedding(self) -> nn.Embedding:
        """The table of the tokens: `[V, H]`."""
        return self.encoder.token_embedding

    @property
    def levels(self) -> list[nn.Module]:
        """The parts from the lowest to the highest."""
        return self.encoder.levels

    def forward(self, batch: PaddedBatch) -> torch.Tensor:
        """The vectors of a batch's tokens: `[B, T, H]`."""
        return self.encoder(replace(batch, attention_mask=past_mask(batch)))


class VisitHead(VisitSeriesHead):
    """Linear on the mean of each visit's tokens.

    Args:
        hidden_size: H.
        outputs: O, the most visits of a history.
    """

    def __init__(self, hidden_size: int, outputs: int) -> None:
        super().__init__(hidden_size, outputs)
        self.dropout = nn.Dropout(DROPOUT)
        self.linear = nn.Linear(hidden_size, 1)

    def predict(self, reduced: torch.Tensor, visits: torch.Tensor) -> torch.Tensor:
        """`[B, O]`: output v is of the visit with the id v + 1."""
        found = self.linear(self.dropout(reduced))[:, :, 0]  # [B, V]
        return F.pad(found, (0, self.outputs - found.shape[1]))
