"""Confidence intervals of metrics from bootstrap replicates of the patients."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from ehr_bert.metrics.summary import weighted_metrics

_CHUNK = 250_000
"""Number of weights in memory at once."""

WeightedMetrics = Callable[[np.ndarray, np.ndarray, np.ndarray], dict[str, np.ndarray]]
"""Function of labels `[N, ...]`, predictions `[N, ...]` and weights `[N, R]`, with `[R]` per metric."""


@dataclass(frozen=True)
class Interval:
    """A value and its 95% confidence interval.

    Attributes:
        value: Value on the examples themselves.
        low: Lower end of the interval, the 2.5th percentile of the replicates.
        high: Upper end, the 97.5th percentile.
    """

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """Return the fields for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def bootstrap(
    labels: np.ndarray,
    probabilities: np.ndarray,
    replicates: int = 1000,
    seed: int = 0,
    patients: np.ndarray | None = None,
    metrics: WeightedMetrics = weighted_metrics,
) -> dict[str, Interval]:
    """Return the metrics of a model, averaged over its seeds, with intervals over the patients.

    Args:
        labels: 0 or 1: `[N]`.
        probabilities: Predicted probability of label 1 by each seed of the model: `[seeds, N]`.
        replicates: Number of bootstrap replicates.
        seed: Random seed of the replicates. Models on the same examples get the same replicates.
        patients: Patient of each example: `[N]`. By default each example belongs to a different patient.
        metrics: Metrics to compute; by default those of a binary prediction.

    Returns:
        An interval per metric. Replicates in which a metric is NaN for a seed are left out of its interval.
    """
    values = averaged(labels, probabilities, replicates, seed, patients, metrics)
    return {key: _interval(of_metric) for key, of_metric in values.items()}


def bootstrap_difference(
    labels: np.ndarray,
    one: np.ndarray,
    other: np.ndarray,
    replicates: int = 1000,
    seed: int = 0,
    patients: np.ndarray | None = None,
    metrics: WeightedMetrics = weighted_metrics,
) -> dict[str, Interval]:
    """Return the differences between the metrics of two models on the same replicates.

    Args:
        labels: 0 or 1: `[N]`.
        one: Probabilities of label 1 by each seed of the first model: `[seeds, N]`.
        other: Those of the second model, which may have another number of seeds: `[other seeds, N]`.
        replicates: Number of bootstrap replicates.
        seed: Random seed of the replicates.
        patients: Patient of each example: `[N]`.
        metrics: Metrics to compute.

    Returns:
        An interval per metric, of the first model's value minus the second's.
    """
    first, second = (
        averaged(labels, probabilities, replicates, seed, patients, metrics) for probabilities in (one, other)
    )
    return {key: _interval(first[key] - second[key]) for key in first}


def averaged(
    labels: np.ndarray,
    probabilities: np.ndarray,
    replicates: int,
    seed: int,
    patients: np.ndarray | None = None,
    metrics: WeightedMetrics = weighted_metrics,
) -> dict[str, np.ndarray]:
    """Return the metrics, averaged over the seeds, on the examples themselves and on each replicate.

    Args:
        labels: 0 or 1: `[N]`.
        probabilities: `[seeds, N]`.
        replicates: Number of bootstrap replicates, R.
        seed: Random seed of the replicates.
        patients: Patient of each example: `[N]`.
        metrics: Metrics to compute.

    Returns:
        `[1 + R]` per metric. The first value is that of the examples themselves.
    """
    patient = np.arange(len(labels)) if patients is None else np.unique(patients, return_inverse=True)[1]
    random = np.random.default_rng(seed)
    chunk = max(1, _CHUNK // max(1, len(labels)))
    sizes = [min(chunk, replicates - begin) for begin in range(0, replicates, chunk)]
    weights = [np.ones((len(labels), 1)), *(_draw_weights(patient, size, random) for size in sizes)]
    parts = [[metrics(labels, of_seed, part) for of_seed in probabilities] for part in weights]
    return {
        key: np.concatenate([np.mean([values[key] for values in part], axis=0) for part in parts])
        for key in parts[0][0]
    }


def _draw_weights(patient: np.ndarray, replicates: int, random: np.random.Generator) -> np.ndarray:
    """Draw how often each example counts with its patient: float32 `[N, R]`."""
    patients = patient.max(initial=-1) + 1
    drawn = random.integers(0, patients, size=(replicates, patients))
    drawn += np.arange(replicates)[:, None] * patients
    counts = np.bincount(drawn.ravel(), minlength=replicates * patients).reshape(replicates, patients)
    return np.ascontiguousarray(counts.T[patient], dtype=np.float32)


def _interval(values: np.ndarray) -> Interval:
    """Return the interval of the value on the examples (the first) and on the replicates: `[1 + R]`."""
    replicates = values[1:][~np.isnan(values[1:])]
    if np.isnan(values[0]) or len(replicates) == 0:
        return Interval(float(values[0]), np.nan, np.nan)
    low, high = np.percentile(replicates, (2.5, 97.5))
    return Interval(float(values[0]), float(low), float(high))
