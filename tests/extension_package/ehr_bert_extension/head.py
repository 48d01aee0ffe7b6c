"""A head on the largest value of each dimension over all tokens."""

import torch

from ehr_bert.prediction.batches import PaddedBatch
from ehr_bert.prediction.heads.linear import LinearHead


class MaxHead(LinearHead):
    """A linear head on the maximum of the token vectors."""

    def reduce(self, hidden: torch.Tensor, batch: PaddedBatch) -> torch.Tensor:
        """Return the maximum of each dimension: `[B, H]`."""
        padding = ~batch.attention_mask[:, :, None]
        largest = hidden.masked_fill(padding, -torch.inf).amax(dim=1)
        return torch.where(largest.isfinite(), largest, 0.0)
