"""Linear heads, which read one vector per history."""

import torch
from torch import nn

from ehr_bert.prediction.batches import PaddedBatch
from ehr_bert.prediction.heads.head import DROPOUT, Head


class LinearHead(Head):
    """Base class of the heads that are linear in one vector per history."""

    def __init__(self, hidden_size: int, outputs: int) -> None:
        super().__init__(hidden_size, outputs)
        self.dropout = nn.Dropout(DROPOUT)
        self.linear = nn.Linear(hidden_size, outputs)

    def predict(self, reduced: torch.Tensor, visits: torch.Tensor) -> torch.Tensor:
        """Return the logits `[B, O]` of pooled vectors `[B, H]`."""
        return self.linear(self.dropout(reduced))


class ClsHead(LinearHead):
    """A linear head on the first token, which is `[CLS]` if the model has one."""

    reads_first_token = True

    def reduce(self, hidden: torch.Tensor, batch: PaddedBatch) -> torch.Tensor:
        """Return the vector of the first token: `[B, H]`."""
        return hidden[:, 0]


class MeanHead(LinearHead):
    """A linear head on the mean of all token vectors."""

    def reduce(self, hidden: torch.Tensor, batch: PaddedBatch) -> torch.Tensor:
        """Return the mean vector of each history: `[B, H]`."""
        mask = batch.attention_mask[:, :, None].to(hidden.dtype)  # [B, T, 1]
        return (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
