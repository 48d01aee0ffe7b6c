"""Regression tasks: one number per history."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F

from ehr_bert.cohorts.cohort import Cohort
from ehr_bert.metrics.discrimination import ratio
from ehr_bert.prediction.multitask.task_file import TaskSettings
from ehr_bert.prediction.multitask.task_type import TaskLabels, TaskType, check_labels_vary
from ehr_bert.prediction.reading import Encoded
from ehr_bert.schemas import TASK_COLUMNS, Split, TaskKind


class RegressionTask(TaskType):
    """Numbers, standardised for training by the mean and standard deviation of the training split."""

    name = TaskKind.REGRESSION
    column_type = TASK_COLUMNS[TaskKind.REGRESSION]
    titles: ClassVar = {
        "r2": "R²",
        "mean_absolute_error": "mean absolute error",
        "spearman": "Spearman correlation",
    }

    def labels(self, cohort: Cohort, settings: TaskSettings, encoded: Encoded) -> TaskLabels:
        """Return the standardised column."""
        values = cohort.labels(settings.column)[:, None]
        train = values[cohort.split == Split.TRAIN.value]
        known = train[~np.isnan(train)]
        check_labels_vary(known, settings.name)
        center, scale = float(known.mean()), float(known.std())
        standardised = ((values - center) / scale).astype(np.float32)
        return TaskLabels(self, standardised, np.zeros(1, np.float32), center=center, scale=scale)

    def losses(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the squared errors: `[B, O]`."""
        return F.mse_loss(logits, targets, reduction="none")

    def predictions(self, logits: Mapping[Split, np.ndarray], valid: TaskLabels) -> dict[Split, np.ndarray]:
        """Return numbers in the units of the column: `[N, 1]` per split."""
        return {split: values * valid.scale + valid.center for split, values in logits.items()}

    def metrics(
        self, labels: np.ndarray, predictions: np.ndarray, weights: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return R², the mean absolute error and Spearman's rank correlation of the first output."""
        labels, predictions = labels[:, 0].astype(float), predictions[:, 0].astype(float)
        weights = weights.astype(float)
        total = weights.sum(axis=0)
        errors = labels - predictions
        mean = labels @ weights / total
        variance = ((labels[:, None] - mean) ** 2 * weights).sum(axis=0)
        return {
            "r2": 1 - ratio(errors**2 @ weights, variance),
            "mean_absolute_error": np.abs(errors) @ weights / total,
            "spearman": _correlation(_ranks(labels, weights), _ranks(predictions, weights), weights),
        }


def _ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return ranks of values that count `weights` times; ties have the mean rank: float64 `[N, R]`."""
    distinct, index = np.unique(values, return_inverse=True)
    counts = np.zeros((len(distinct), weights.shape[1]))
    np.add.at(counts, index, weights)
    return (np.cumsum(counts, axis=0) - (counts - 1) / 2)[index]


def _correlation(one: np.ndarray, other: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the Pearson correlation of each column: `[R]` from three arrays `[N, R]`."""
    total = weights.sum(axis=0)
    one, other = (values - (values * weights).sum(axis=0) / total for values in (one, other))
    variances = [(values**2 * weights).sum(axis=0) for values in (one, other)]
    return ratio((one * other * weights).sum(axis=0), np.sqrt(variances[0] * variances[1]))


REGRESSION = RegressionTask()
