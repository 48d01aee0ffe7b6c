"""The base class of prediction heads."""

from typing import ClassVar

import torch
from torch import nn

from ehr_bert.prediction.batches import PaddedBatch

DROPOUT = 0.1
"""Dropout rate before the last layer."""


class Head(nn.Module):
    """Base class of the heads, which compute logits from token vectors in two steps.

    `reduce` pools the vectors and has no weights, so that its result is computed only once for a frozen
    encoder. `predict` has the weights.

    Args:
        hidden_size: H, the size of a token vector.
        outputs: O, the number of logits.

    Attributes:
        reads_visits: Whether `reduce` returns one vector per visit, `[B, K, H]`, instead of one per history,
            `[B, H]`.
        reads_first_token: Whether the logits depend only on the vector of the first token, so that its
            attention explains a prediction.
        name: Name in `HEADS`; set by `make_head`.
    """

    reads_visits: ClassVar[bool] = False
    reads_first_token: ClassVar[bool] = False
    name: str = ""

    def __init__(self, hidden_size: int, outputs: int) -> None:
        super().__init__()
        self.hidden_size, self.outputs = hidden_size, outputs

    def forward(self, hidden: torch.Tensor, batch: PaddedBatch) -> torch.Tensor:
        """Return the logits `[B, O]` of token vectors `[B, T, H]`."""
        return self.predict(self.reduce(hidden, batch), batch.visits)

    def reduce(self, hidden: torch.Tensor, batch: PaddedBatch) -> torch.Tensor:
        """Pool token vectors `[B, T, H]` to one vector per history, `[B, H]`, or per visit, `[B, K, H]`."""
        raise NotImplementedError

    def predict(self, reduced: torch.Tensor, visits: torch.Tensor) -> torch.Tensor:
        """Return the logits of pooled vectors.

        Args:
            reduced: The result of `reduce`.
            visits: Number of visits of each history: int64 `[B]`, on the CPU.

        Returns:
            The logits `[B, O]`.
        """
        raise NotImplementedError

    @property
    def output_bias(self) -> nn.Parameter | None:
        """Bias of the logits, `[O]`, which may be initialised with a baseline; None if the head has none.

        By default this is the bias of the layer `linear`.
        """
        layer = getattr(self, "linear", None)
        return layer.bias if isinstance(layer, nn.Linear) else None
