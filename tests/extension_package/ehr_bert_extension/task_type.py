"""A task type: several numbers per history, in a column of lists, which no built-in task type reads."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F

from ehr_bert.cohorts.cohort import Cohort
from ehr_bert.prediction.multitask.task_file import TaskSettings
from ehr_bert.prediction.multitask.task_type import TaskLabels, TaskType
from ehr_bert.prediction.reading import Encoded
from ehr_bert.schemas import Split


class NumbersTask(TaskType):
    """Lists of numbers of equal length, with the squared error as the loss."""

    name = "numbers"
    column_type = pa.list_(pa.float64())
    titles: ClassVar = {"mean_absolute_error": "mean absolute error"}
    replicates = 50

    def labels(self, cohort: Cohort, settings: TaskSettings, encoded: Encoded) -> TaskLabels:
        """Return the lists as rows, with the means of the training split as baseline."""
        values = np.array(cohort.tasks[settings.column].to_pylist(), np.float32)
        return TaskLabels(self, values, values[cohort.split == Split.TRAIN.value].mean(axis=0))

    def losses(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the squared errors."""
        return F.mse_loss(logits, targets, reduction="none")

    def predictions(self, logits: Mapping[Split, np.ndarray], valid: TaskLabels) -> dict[Split, np.ndarray]:
        """Return the outputs of the head."""
        return dict(logits)

    def metrics(
        self, labels: np.ndarray, predictions: np.ndarray, weights: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return the mean absolute error over all numbers."""
        errors = np.abs(labels - predictions).mean(axis=1)
        return {"mean_absolute_error": errors @ weights / weights.sum(axis=0)}


NUMBERS = NumbersTask()
