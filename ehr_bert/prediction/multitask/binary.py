"""Binary tasks: one label of 0 or 1 per history."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from ehr_bert.cohorts.cohort import Cohort
from ehr_bert.metrics.calibration import fit_calibration
from ehr_bert.metrics.metric import METRICS
from ehr_bert.metrics.summary import weighted_metrics
from ehr_bert.prediction.multitask.task_file import TaskSettings
from ehr_bert.prediction.multitask.task_type import (
    TaskLabels,
    TaskType,
    check_labels_vary,
    log_odds_of_mean,
)
from ehr_bert.prediction.reading import Encoded
from ehr_bert.schemas import TASK_COLUMNS, Split, TaskKind

_SHOWN = ("auroc", "average_precision", "brier")
"""Metrics in the report."""


class BinaryTask(TaskType):
    """Labels 0 or 1. Predictions are risks, calibrated by a temperature on the validation split."""

    name = TaskKind.BINARY
    column_type = TASK_COLUMNS[TaskKind.BINARY]
    titles: ClassVar = {key: METRICS[key].title for key in _SHOWN}
    has_cases = True

    def labels(self, cohort: Cohort, settings: TaskSettings, encoded: Encoded) -> TaskLabels:
        """Return the column as it is."""
        return self.labels_of(cohort.labels(settings.column)[:, None], 0, cohort, settings)

    def labels_of(
        self, values: np.ndarray, skipped: int, cohort: Cohort, settings: TaskSettings
    ) -> TaskLabels:
        """Return labels with the log odds of the training prevalence as baseline.

        Args:
            values: 0, 1 or NaN: `[N, O]`.
            skipped: Number of labels that were left out.
            cohort: The examples.
            settings: Settings of the task.
        """
        train = values[cohort.split == Split.TRAIN.value]
        known = train[~np.isnan(train)].astype(float)
        check_labels_vary(known, settings.name)
        baseline = np.full(values.shape[1], log_odds_of_mean(known))
        return TaskLabels(self, values.astype(np.float32), baseline, skipped=skipped)

    def predictions(self, logits: Mapping[Split, np.ndarray], valid: TaskLabels) -> dict[Split, np.ndarray]:
        """Return calibrated risks: float64 `[N, O]` per split."""
        known = valid.is_known
        calibration = fit_calibration(logits[Split.VALID][known], valid.values[known])
        return {split: calibration.probabilities(values) for split, values in logits.items()}

    def metrics(
        self, labels: np.ndarray, predictions: np.ndarray, weights: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return the metrics of a binary prediction over all known labels."""
        example, output = np.nonzero(~np.isnan(labels))
        return weighted_metrics(labels[example, output], predictions[example, output], weights[example])


BINARY = BinaryTask()
