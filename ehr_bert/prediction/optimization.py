"""One update of a fine-tuning: learning rates by level, precision, gradients of all processes together.

Started as `accelerate launch -m ehr_bert ...`, each process takes its share of a batch's histories, and the
gradients are those of the whole batch.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from ehr_bert.prediction.encoders import HistoryEncoder
from ehr_bert.prediction.frozen import PredictorInputs, batch_of
from ehr_bert.settings import Count, NonNegative, Positive, PositiveShare, Settings, Share

CLIP_NORM = 1.0
"""Gradients are scaled down to this norm."""

Precision = Literal["auto", "float32", "bfloat16"]
"""What encoders compute in; `auto` is bfloat16 on a GPU that has it."""

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""The loss of each history, `[B]`, of logits `[B, outputs]` and the histories' rows: `[B]`, on the CPU."""


@dataclass(frozen=True)
class FitSettings(Settings):
    """How a predictor is fitted.

    Attributes:
        learning_rate: Of the head, at its highest: it rises over the first updates and falls to 0 linearly.
        layer_decay: What each level of the encoder multiplies the rate of the one above it by; the
            embeddings, the lowest, have the smallest.
        epochs: The most passes over the training histories, but for `least_updates`.
        least_updates: Small training sets are passed over as often as it takes for so many updates.
        batch_examples: Histories of an update.
        batch_tokens: Tokens that are computed at a time where nothing is learnt; a GPU is quicker with more.
        evaluate_updates: Updates from one look at the validation split to the next.
        patience: Looks without a better one after which the fit ends.
        warmup: Share of the updates over which the rate rises.
        weight_decay: Of matrices; vectors such as biases have none.
        frozen: Whether the encoder stays as it is, and the head alone learns.
        head_first: Whether a BERT stays as it is until the head has learnt, so that a new head's first errors
            don't spoil it (Kumar et al. 2022).
        head_learning_rate: Of the head in that time.
        precision: What the encoder computes in.
    """

    learning_rate: Positive = 3e-4
    layer_decay: PositiveShare = 0.9
    epochs: Count = 10
    least_updates: Count = 300
    batch_examples: Count = 32
    batch_tokens: Count = 4096
    evaluate_updates: Count = 50
    patience: Count = 4
    warmup: Share = 0.1
    weight_decay: NonNegative = 0.01
    frozen: bool = False
    head_first: bool = True
    head_learning_rate: Positive = 1e-3
    precision: Precision = "auto"


@dataclass(frozen=True)
class Runtime:
    """Where and how precisely is computed.

    Attributes:
        precision: What the encoder computes in.
        accelerator: The processes and their devices.
    """

    precision: Precision = "auto"
    accelerator: Accelerator = field(default_factory=Accelerator)

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        return self.accelerator.device

    def autocast(self) -> torch.autocast:
        """A context in which the encoder computes as `precision` says."""
        on_gpu = self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        lower = self.precision == "bfloat16" or (self.precision == "auto" and on_gpu)
        return torch.autocast(self.device.type, torch.bfloat16, enabled=lower)

    def share(self, rows: np.ndarray) -> np.ndarray:
        """What falls to this process of what all do together."""
        return rows[self.accelerator.process_index :: self.accelerator.num_processes]


def parameter_groups(encoder: HistoryEncoder, head: nn.Module, settings: FitSettings) -> list[dict[str, Any]]:
    """The weights that learn, by learning rate and weight decay, as PyTorch's optimizers take them.

    Args:
        encoder: Its levels have the lower rates, the lowest the smallest; none if it is frozen.
        head: Has the full rate; may hold several heads.
        settings: Tells rate, decays and whether the encoder is frozen.
    """
    levels = [] if settings.frozen else encoder.levels
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
    """The updates of a model.

    Args:
        groups: As `parameter_groups` gives them.
        total: How many updates there will be at most.
        settings: Tells the warm-up.
        runtime: Where they are computed.
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
        """One update on some histories.

        Args:
            model: Gives the logits of a batch.
            inputs: All training histories.
            rows: Those of this update: int64 `[B]`.
            loss: Of each history.

        Returns:
            The mean loss of this process's share.
        """
        mine = self._runtime.share(rows)
        # A process that gets none computes one for nothing, since all take part in every exchange.
        weight = self._runtime.accelerator.num_processes / len(rows) if len(mine) else 0.0
        batch = batch_of(inputs, mine if len(mine) else rows[:1]).to(self._runtime.device)
        with self._runtime.autocast():
            logits = model(batch)
        losses = loss(logits, batch.rows)  # [B]
        # Processes' gradients are averaged, so that each multiplies its sum by how many there are.
        self._runtime.accelerator.backward(losses.sum() * weight)
        torch.nn.utils.clip_grad_norm_(
            [each for each in self._weights if each.grad is not None], CLIP_NORM, foreach=True
        )
        self.optimizer.step()
        self._schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(losses.detach().mean())


def epochs_of(settings: FitSettings, examples: int) -> range:
    """The numbers of the passes over so many training histories, from 1."""
    updates = -(-examples // settings.batch_examples)
    return range(1, max(settings.epochs, -(-settings.least_updates // updates)) + 1)
