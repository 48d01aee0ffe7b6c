"""Metrics of a binary prediction, their registry, and the computations that they share.

Shapes: `N` examples, `R` bootstrap replicates (columns of weights), `U` distinct probabilities.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from ehr_bert.metrics.discrimination import Thresholds, thresholds
from ehr_bert.registry import Registry

Direction = Literal["largest", "smallest"] | float
"""The best value of a metric: the largest, the smallest, or the one nearest to a number."""

DISCRIMINATION, CALIBRATION = "discrimination", "calibration"
"""Groups of the metrics of this package. The report has one table per group."""


@dataclass(frozen=True, eq=False)
class WeightedPredictions:
    """Predictions that all metrics are computed from. Work that several metrics share is done once.

    Attributes:
        labels: 0 or 1: float64 `[N]`, without NaN.
        probabilities: Predicted probability of label 1: float64 `[N]`, without NaN.
        weights: Number of times that each example counts in each replicate: `[N, R]`.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    weights: np.ndarray

    @cached_property
    def thresholds(self) -> Thresholds:
        """Weights of true and of all positive predictions at every distinct probability."""
        return thresholds(self.labels, self.probabilities, self.weights)

    @property
    def total(self) -> np.ndarray:
        """Weight of all examples: `[R]`."""
        return self.thresholds.predicted_positives[-1]


@dataclass(frozen=True)
class Metric:
    """A metric of a binary prediction.

    Attributes:
        key: Key in `results.json`, in lower case with underscores.
        title: Title in tables.
        direction: Which value is best.
        group: Table that shows the metric, such as `DISCRIMINATION`. A new group gets a new table.
        function: Returns the metric of each replicate: float64 `[R]`. NaN marks a replicate in which the
            metric is undefined. It is left out of intervals, shown as an empty cell, and never best.

    Example:
        >>> def mean_risk(predictions):
        ...     return predictions.probabilities @ predictions.weights / predictions.weights.sum(axis=0)
        >>> metric = Metric("mean_risk", "mean risk", "smallest", CALIBRATION, mean_risk)
        >>> metric.function(WeightedPredictions(np.zeros(2), np.array([0.2, 0.4]), np.ones((2, 1))))
        array([0.3])
    """

    key: str
    title: str
    direction: Direction
    group: str
    function: Callable[[WeightedPredictions], np.ndarray]

    def distance(self, value: float) -> float:
        """Return a number that is smaller for better values."""
        if self.direction == "largest":
            return -value
        if self.direction == "smallest":
            return value
        return abs(value - float(self.direction))


METRICS: Registry[Metric] = Registry(
    "metric",
    "ehr_bert.metrics",
    {
        "auroc": "ehr_bert.metrics.binary:AUROC",
        "average_precision": "ehr_bert.metrics.binary:AVERAGE_PRECISION",
        "brier": "ehr_bert.metrics.binary:BRIER",
        "calibration_slope": "ehr_bert.metrics.binary:CALIBRATION_SLOPE",
        "calibration_intercept": "ehr_bert.metrics.binary:CALIBRATION_INTERCEPT",
        "sensitivity_at_specificity": "ehr_bert.metrics.binary:SENSITIVITY_AT_SPECIFICITY",
    },
)
"""The metrics by name, in the order of `results.json`. To add one, write a file with a `Metric`
and add its line here."""
