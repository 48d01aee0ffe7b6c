"""Loss and validation score of a task, in units of the loss of its baseline."""

import numpy as np
import torch

from ehr_bert.prediction.fitting import Score
from ehr_bert.prediction.multitask.task_type import TaskLabels, TaskType
from ehr_bert.prediction.optimization import Loss


def label_losses(type_: TaskType, logits: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return the loss of each label, 0 for an unknown label: `[B, O]`.

    Args:
        type_: Task type.
        logits: `[B, O]`.
        values: Labels as in `TaskLabels`, NaN where unknown: `[B, O]`.
    """
    return type_.losses(logits, values.nan_to_num()).masked_fill(values.isnan(), 0)


def loss_of(labels: TaskLabels) -> Loss:
    """Return the training loss of a task.

    It is divided by the loss of the baseline, so that tasks of all types have about equal weight. All known
    labels count equally.

    Args:
        labels: Labels of the training split.
    """
    values = torch.from_numpy(labels.values)
    unit = _baseline_losses(labels).sum() / len(values)  # per example

    def loss(logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        losses = label_losses(labels.type, logits, values[rows].to(logits.device))
        return losses.sum(dim=1) / unit

    return loss


def score_of(labels: TaskLabels) -> Score:
    """Return a function that scores logits: the explained share of the baseline's loss, and the loss.

    `explained` is R² for a regression, and McFadden's pseudo R² for probabilities, where the baseline is the
    mean of the training split.

    Args:
        labels: Labels of the validation split.
    """
    values = torch.from_numpy(labels.values)
    baseline_loss = float(_baseline_losses(labels).sum())

    def score(logits: np.ndarray) -> dict[str, float]:
        loss = float(label_losses(labels.type, torch.from_numpy(logits).double(), values.double()).sum())
        return {"explained": 1 - loss / baseline_loss, "loss": loss / max(int((~values.isnan()).sum()), 1)}

    return score


def _baseline_losses(labels: TaskLabels) -> torch.Tensor:
    """Return the losses of the baseline: float64 `[N, O]`."""
    values = torch.from_numpy(labels.values).double()
    return label_losses(labels.type, torch.from_numpy(labels.baseline).double().expand_as(values), values)
