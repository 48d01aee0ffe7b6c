"""Metrics of a binary prediction, their registry, and the computations that they share.

Shapes: `N` examples, `R` bootstrap replicates (columns of weights), `U` distinct probabilities.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from ehr_bert.errors import UserError
from ehr_bert.logs import warn_of
from ehr_bert.metrics.discrimination import Thresholds, thresholds
from ehr_bert.registry import Guard, Registry, other_name, wrong_instance

logger = logging.getLogger(__name__)

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


_OTHER_KEYS = ("model", "size", "seeds", "seconds", "valid_auroc", "delong")
"""Further keys of a row of the results."""


def _adopted(name: str, loaded: Any, guard: Guard) -> Metric | str:
    if problem := wrong_instance(loaded, Metric) or other_name(name, loaded.key):
        return problem
    if name in _OTHER_KEYS:
        return "the results have another value of this name"
    if loaded.direction not in ("largest", "smallest") and not isinstance(loaded.direction, int | float):
        return f"its direction is {loaded.direction!r}, not 'largest', 'smallest' or a number"
    return replace(loaded, function=_or_undefined(guard(loaded.function, _wrong_values)))


def _wrong_values(values: Any, predictions: WeightedPredictions) -> str | None:
    expected = predictions.weights.shape[1:]
    if not isinstance(values, np.ndarray) or values.shape != expected or values.dtype.kind not in "fiu":
        shape = (
            f"an array of {values.dtype} {values.shape}" if isinstance(values, np.ndarray) else repr(values)
        )
        return f"returned {shape}, not an array of numbers {expected}, one per replicate"
    return "returned infinite values. Return NaN where it is undefined" if np.isinf(values).any() else None


def _or_undefined(function: Callable[[WeightedPredictions], np.ndarray]) -> Callable[..., np.ndarray]:
    """Return a function that is NaN where `function` fails, so that a comparison does not end with it."""
    is_known = False

    def values(predictions: WeightedPredictions) -> np.ndarray:
        nonlocal is_known
        try:
            return function(predictions)
        except UserError as error:
            if not is_known:
                warn_of(logger, error, "undefined: ")
            is_known = True
            return np.full(predictions.weights.shape[1], np.nan)

    return values


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
    _adopted,
)
"""The metrics by name, in the order of `results.json`. To add one, write a file with a `Metric`
and add its line here."""
