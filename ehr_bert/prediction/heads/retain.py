"""RETAIN, a recurrent head with attention over visits and over the dimensions of their vectors."""

import torch
from torch import nn

from ehr_bert.prediction.heads.head import DROPOUT
from ehr_bert.prediction.heads.visits import VisitSeriesHead, pack_visits, visit_states


class RetainHead(VisitSeriesHead):
    """RETAIN.

    Two GRUs read the visits from the last to the first. One gives each visit an attention weight alpha, by a
    softmax over the visits. The other gives each dimension of the visit's vector a weight beta from -1 to 1.
    The logits are linear in the sum of the weighted vectors.

    Source: Choi et al. 2016, "RETAIN: An Interpretable Predictive Model for Healthcare using Reverse Time
    Attention Mechanism", https://arxiv.org/abs/1608.05745.
    """

    def __init__(self, hidden_size: int, outputs: int) -> None:
        super().__init__(hidden_size, outputs)
        self.alpha_gru = nn.GRU(hidden_size, hidden_size, batch_first=True)
        self.alpha = nn.Linear(hidden_size, 1)
        self.beta_gru = nn.GRU(hidden_size, hidden_size, batch_first=True)
        self.beta = nn.Linear(hidden_size, hidden_size)
        self.dropout = nn.Dropout(DROPOUT)
        self.linear = nn.Linear(hidden_size, outputs)

    def predict(self, reduced: torch.Tensor, visits: torch.Tensor) -> torch.Tensor:
        """Return the logits `[B, O]` of visit vectors `[B, K, H]`."""
        position = torch.arange(reduced.shape[1])
        reversed_position = (visits[:, None].clamp(min=1) - 1 - position).to(reduced.device)  # [B, K]
        is_visit = (reversed_position >= 0)[:, :, None]  # [B, K, 1]
        order = reversed_position.clamp(min=0)[:, :, None].expand_as(reduced)
        latest_first = reduced.gather(1, order) * is_visit  # [B, K, H]
        packed = pack_visits(latest_first, visits)
        alpha_logits = self.alpha(visit_states(self.alpha_gru, packed))
        alpha = alpha_logits.masked_fill(~is_visit, -torch.inf).softmax(dim=1)  # [B, K, 1]
        beta = self.beta(visit_states(self.beta_gru, packed)).tanh()  # [B, K, H]
        context = (alpha * beta * latest_first).sum(dim=1)  # [B, H]
        return self.linear(self.dropout(context))
