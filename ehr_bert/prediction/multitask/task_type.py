"""Task types: the type of a column of labels, and how its task is trained and evaluated.

Shapes: `N` examples, `O` outputs of the task's head (one, or one per code or visit), `R` bootstrap replicates
(columns of weights).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F

from ehr_bert.cohorts.cohort import Cohort
from ehr_bert.cohorts.task_columns import TASK_TYPES
from ehr_bert.errors import UserError
from ehr_bert.prediction.encoders import HistoryEncoder
from ehr_bert.prediction.multitask.task_file import TaskSettings
from ehr_bert.prediction.predictor import Predictor, make_predictor
from ehr_bert.prediction.reading import Encoded
from ehr_bert.registry import Guard, other_name, with_guards, wrong_instance
from ehr_bert.schemas import Split


@dataclass(frozen=True)
class TaskLabels:
    """Labels of a task's examples.

    Attributes:
        type: Task type.
        values: Labels, NaN where unknown: float32 `[N, O]`. A regression's labels are standardised.
        baseline: Logits of the baseline, which predicts the mean of the training labels for every patient:
            float32 `[O]`.
        codes: Codes that the outputs of a multilabel task predict, in alphabetical order.
        center: Mean of a regression's training labels, which was subtracted.
        scale: Standard deviation of those labels, by which the labels were divided.
        skipped: Number of labels of visits that are not read because the history is too long.
    """

    type: "TaskType"
    values: np.ndarray
    baseline: np.ndarray
    codes: tuple[str, ...] = ()
    center: float = 0.0
    scale: float = 1.0
    skipped: int = 0

    @property
    def outputs(self) -> int:
        """Number of outputs, O."""
        return self.values.shape[1]

    @property
    def is_known(self) -> np.ndarray:
        """Whether each label is known: bool `[N, O]`."""
        return ~np.isnan(self.values)

    def in_units(self) -> np.ndarray:
        """Return the labels as they are in the cohort table, not standardised: float64 `[N, O]`."""
        return self.values.astype(float) * self.scale + self.center

    def take(self, rows: np.ndarray) -> "TaskLabels":
        """Return the labels of the examples `rows`, as numbers or as bool `[N]`."""
        return replace(self, values=self.values[rows])


class TaskType(ABC):
    """A task type. To add one, write a file with an instance and add its line to `TASK_TYPES`.

    Attributes:
        name: Name in the registry, in task files and in results.
        column_type: Arrow type of the column with the labels.
        titles: Titles of the metrics that the report shows, by key. The first metric is compared with the
            training of the task alone.
        replicates: Number of bootstrap replicates.
        has_cases: Whether labels are 0 or 1, so that the report gives the number of cases.
        uses_min_positives: Whether the setting `min_positives` has an effect.
    """

    name: ClassVar[str]
    column_type: ClassVar[pa.DataType]
    titles: ClassVar[Mapping[str, str]]
    replicates: ClassVar[int] = 1000
    has_cases: ClassVar[bool] = False
    uses_min_positives: ClassVar[bool] = False

    @abstractmethod
    def labels(self, cohort: Cohort, settings: TaskSettings, encoded: Encoded) -> TaskLabels:
        """Return the labels of all splits. Values derived from labels are computed on the training split.

        Args:
            cohort: Examples whose label is not null.
            settings: Settings of the task.
            encoded: The same examples as the model reads them.

        Raises:
            UserError: There is nothing to learn (keys `constant-labels`, `no-frequent-code`), or the column
                does not match the histories (`visit-count-mismatch`).
        """

    def losses(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of each label, by default the binary cross entropy.

        Args:
            logits: `[B, O]`.
            targets: As `TaskLabels.values`, with 0 in place of NaN: `[B, O]`.

        Returns:
            `[B, O]`. Losses of unknown labels are discarded.
        """
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="none")

    def predictor(self, encoder: HistoryEncoder, head: str, outputs: int, seed: int) -> Predictor:
        """Return a predictor with a new head.

        Args:
            encoder: Encoder of the predictor.
            head: Name of the head.
            outputs: Number of outputs, O.
            seed: Random seed of the head's weights.

        Raises:
            UserError: The head is unknown (key `unknown-head`).
        """
        return make_predictor(encoder, head, outputs, seed)

    @abstractmethod
    def predictions(self, logits: Mapping[Split, np.ndarray], valid: TaskLabels) -> dict[Split, np.ndarray]:
        """Return predictions in the units of the column, such as calibrated risks: `[N, O]` per split.

        Args:
            logits: Logits of the validation and test examples: `[N, O]` each.
            valid: Labels of the validation examples, to calibrate on.
        """

    @abstractmethod
    def metrics(
        self, labels: np.ndarray, predictions: np.ndarray, weights: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return the metrics by key: `[R]` each, NaN where undefined.

        Args:
            labels: Labels in the units of the column, NaN where unknown: `[N, O]`.
            predictions: As `predictions` returns them: `[N, O]`.
            weights: Number of times that each example counts in each replicate: `[N, R]`.
        """

    def caption(self, facts: Mapping[str, Any]) -> str:
        """Return a sentence for the report about a task, given its entry in `results.json`."""
        return ""


def adopted(name: str, loaded: Any, guard: Guard) -> TaskType | str:
    """Return a task type of another package with its functions guarded, or what is wrong with it."""
    if problem := wrong_instance(loaded, TaskType) or other_name(name, loaded.name):
        return problem
    if not isinstance(loaded.column_type, pa.DataType):
        return "its column_type is no type of PyArrow"
    if not loaded.titles:
        return "its titles name no metric"
    kind = type(loaded)
    guarded = copy(loaded)
    guarded.__class__ = with_guards(
        kind,
        {
            "labels": guard(kind.labels, _wrong_labels),
            "losses": guard(kind.losses, _wrong_losses),
            "predictor": guard(kind.predictor),
            "predictions": guard(kind.predictions, _wrong_predictions),
            "metrics": guard(kind.metrics, _wrong_metrics),
        },
    )
    return guarded


def _wrong_labels(labels: Any, type_: TaskType, cohort: Cohort, *_: Any) -> str | None:
    if wrong := wrong_instance(labels, TaskLabels):
        return f"its labels: {wrong}"
    values = labels.values
    if not isinstance(values, np.ndarray) or values.dtype != np.float32 or values.ndim != 2:
        return f"returned labels {_array(values)}, not float32 [N, O]"
    if len(values) != len(cohort):
        return f"returned labels of {len(values):,} examples, not of {len(cohort):,}"
    if np.shape(labels.baseline) != values.shape[1:] or not np.isfinite(labels.baseline).all():
        return f"returned a baseline {_array(labels.baseline)} that is not one finite number per output"
    return None


def _wrong_losses(losses: Any, type_: TaskType, logits: torch.Tensor, *_: Any) -> str | None:
    shape = getattr(losses, "shape", type(losses).__name__)
    return None if shape == logits.shape else f"returned losses {shape}, not one per label: {logits.shape}"


def _wrong_predictions(
    predictions: Any, type_: TaskType, logits: Mapping[Split, np.ndarray], *_: Any
) -> str | None:
    for split, of_split in logits.items():
        if split not in predictions or len(predictions[split]) != len(of_split):
            return f"returned no prediction for each {split} example"
        if not np.isfinite(predictions[split]).all():
            return f"returned predictions of {split} examples that are NaN or infinite"
    return None


def _wrong_metrics(
    metrics: Any, type_: TaskType, labels: np.ndarray, predictions: np.ndarray, weights: np.ndarray
) -> str | None:
    for key, values in metrics.items():
        if np.shape(values) != weights.shape[1:]:
            return f"returned the metric {key} {_array(values)}, not one value per replicate"
    missing = [key for key in type_.titles if key not in metrics]
    return f"does not return the metrics {', '.join(missing)} of its titles" if missing else None


def _array(values: Any) -> str:
    return f"{getattr(values, 'dtype', type(values).__name__)} {np.shape(values)}"


def task_type(name: str) -> TaskType:
    """Return the task type of a name.

    Raises:
        UserError: The name is unknown (key `unknown-task-type`).
    """
    registered: TaskType = TASK_TYPES[name]
    return registered


def check_labels_vary(known: np.ndarray, task: str) -> None:
    """Raise a `UserError` (key `constant-labels`) if all known training labels of a task are equal."""
    if len(np.unique(known)) < 2:
        raise UserError(
            "constant-labels",
            f"task {task}: all {len(known):,} training labels are equal, so there is nothing to learn. "
            "Choose another column or cohort.",
        )


def log_odds_of_mean(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Return the log odds of the mean of zeros and ones, with one more of each so that they are finite."""
    ones = values.sum(axis=axis, dtype=float) + 1
    zeros = (1 - values).sum(axis=axis, dtype=float) + 1
    return np.log(ones / zeros).astype(np.float32)
