"""Updates of a fine-tuning run: learning rates by level, precision, and gradients over all processes.

Under `accelerate launch -m ehr_bert ...`, each process computes its share of a batch, and the gradients are
those of the whole batch.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from ehr_bert.errors import UserError
from ehr_bert.prediction.encoders import HistoryEncoder
from ehr_bert.prediction.frozen import PredictorInputs, batch_of
from ehr_bert.settings import Count, NonNegative, Positive, PositiveShare, Settings, Share

CLIP_NORM = 1.0
"""Gradients with a larger norm are scaled down to this norm."""

Precision = Literal["auto", "float32", "bfloat16"]
"""Precision of the encoder; `auto` is bfloat16 on a GPU that supports it, else float32."""

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Computes the loss of each history, `[B]`, from logits `[B, O]` and the rows of the histories, `[B]`, on the
CPU."""


@dataclass(frozen=True)
class SearchFitSettings(Settings):
    """Settings of the fits in a search over learning rates.

    Attributes:
        layer_decay: Ratio of the learning rate of each level of the encoder to that of the level above. The
            embeddings, the lowest level, have the smallest rate.
        epochs: Maximum number of epochs, unless `least_updates` requires more.
        least_updates: Minimum number of updates; small training sets are repeated for more epochs.
        batch_examples: Histories per update.
        batch_tokens: Maximum number of tokens computed at a time during evaluation. More are faster on a GPU.
        evaluate_updates: Number of updates between two evaluations on the validation split.
        patience: Number of evaluations without an improvement after which the fit stops.
        warmup: Share of the updates during which the learning rate rises.
        weight_decay: Weight decay of matrices. Vectors such as biases have none.
        head_first: Whether the head on a BERT is fitted alone first, with the encoder frozen, so that a new
            head does not distort pretrained weights (Kumar et al. 2022).
        precision: Precision of the encoder.
    """

    layer_decay: PositiveShare = 0.9
    epochs: Count = 10
    least_updates: Count = 300
    batch_examples: Count = 32
    batch_tokens: Count = 4096
    evaluate_updates: Count = 50
    patience: Count = 4
    warmup: Share = 0.1
    weight_decay: NonNegative = 0.01
    head_first: bool = True
    precision: Precision = "auto"


@dataclass(frozen=True)
class FitSettings(SearchFitSettings):
    """Settings of one fit of a predictor.

    Attributes:
        learning_rate: Peak learning rate of the head. The rate rises linearly during the warm-up and then
            falls linearly to 0.
        head_learning_rate: Peak learning rate of the head while it is fitted alone, with `head_first`.

    Raises:
        UserError: `head_learning_rate` is set although `head_first` is false (key `setting-without-effect`).
    """

    learning_rate: Positive = 3e-4
    head_learning_rate: Positive = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.head_first and self.head_learning_rate != type(self).head_learning_rate:
            raise UserError(
                "setting-without-effect",
                "head_learning_rate has no effect with head_first = false. Remove one of the two.",
            )


@dataclass(frozen=True)
class Runtime:
    """Devices and precision of a computation.

    Attributes:
        precision: Precision of the encoder.
        accelerator: The processes and their devices.
    """

    precision: Precision = "auto"
    accelerator: Accelerator = field(default_factory=Accelerator)

    @property
    def device(self) -> torch.device:
        """Device of this process."""
        return self.accelerator.device

    def autocast(self) -> torch.autocast:
        """Return a context in which the encoder computes in `precision`."""
        on_gpu = self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        lower = self.precision == "bfloat16" or (self.precision == "auto" and on_gpu)
        return torch.autocast(self.device.type, torch.bfloat16, enabled=lower)

    def share(self, rows: np.ndarray) -> np.ndarray:
        """Return the share of this process in the rows that all processes compute together."""
        return rows[self.accelerator.process_index :: self.accelerator.num_processes]


def parameter_groups(
    encoder: HistoryEncoder, head: nn.Module, settings: FitSettings, frozen: bool = False
) -> list[dict[str, Any]]:
    """Group the trainable weights by learning rate and weight decay, as PyTorch's optimizers expect them.

    Args:
        encoder: The encoder, whose levels have decreasing learning rates from the top to the embeddings.
        head: The head, or several heads, with the full learning rate.
        settings: Provides the learning rate and the decays.
        frozen: Whether the encoder is left out.
    """
    levels = [] if frozen else encoder.levels
    groups = []
    for depth, module in enumerate([head, *reversed(levels)]):
        weights = [weight for weight in module.parameters() if weight.requires_grad]
        for decay, chosen in (
            (settings.weight_decay, [weight for weight in weights if weight.dim() > 1]),
            (0.0, [weight for weight in weights if weight.dim() < 2]),
        ):
            if chosen:
                rate = settings.learning_rate * settings.layer_decay**depth
                groups.append({"params": chosen, "lr": rate, "weight_decay": decay})
    return groups


class OptimizerStep:
    """Updates a model, one call per update.

    Args:
        groups: The result of `parameter_groups`.
        total: Maximum number of updates of the fit.
        settings: Provides the warm-up share.
        runtime: Devices and precision.
    """

    def __init__(
        self, groups: list[dict[str, Any]], total: int, settings: FitSettings, runtime: Runtime
    ) -> None:
        self.optimizer = torch.optim.AdamW(groups, fused=True)
        self._weights = [weight for group in groups for weight in group["params"]]
        self._runtime = runtime
        warmup = max(int(settings.warmup * total), 1)

        def factor(done: int) -> float:
            return min((done + 1) / warmup, (total - done) / max(total - warmup, 1), 1.0)

        self._schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor)

    def __call__(
        self, model: Callable[[Any], torch.Tensor], inputs: PredictorInputs, rows: np.ndarray, loss: Loss
    ) -> float:
        """Make one update on some histories.

        Args:
            model: Computes the logits of a batch.
            inputs: All training histories.
            rows: Rows of the histories of this update: int64 `[B]`.
            loss: Loss of each history.

        Returns:
            The mean loss over the share of this process.
        """
        share = self._runtime.share(rows)
        # A process without a share still computes one history, with weight 0, since all processes must take
        # part in every exchange of gradients.
        weight = self._runtime.accelerator.num_processes / len(rows) if len(share) else 0.0
        batch = batch_of(inputs, share if len(share) else rows[:1]).to(self._runtime.device)
        with self._runtime.autocast():
            logits = model(batch)
        losses = loss(logits, batch.rows)  # [B]
        # Gradients are averaged over the processes, so each process multiplies its sum by their number.
        self._runtime.accelerator.backward(losses.sum() * weight)
        torch.nn.utils.clip_grad_norm_(
            [tensor for tensor in self._weights if tensor.grad is not None], CLIP_NORM, foreach=True
        )
        self.optimizer.step()
        self._schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(losses.detach().mean())


def epochs_of(settings: SearchFitSettings, examples: int) -> range:
    """Return the numbers of the epochs of a fit, from 1: range(1, epochs + 1).

    Args:
        settings: Provides the epochs and the minimum number of updates.
        examples: Number of training histories.
    """
    updates = -(-examples // settings.batch_examples)
    return range(1, max(settings.epochs, -(-settings.least_updates // updates)) + 1)
