"""Intervals of metrics by drawing the patients again, with replacement."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from ehr_bert.metrics.summary import weighted_metrics

_CHUNK = 250_000
"""Weights held at once."""

Weighted = Callable[[np.ndarray, np.ndarray, np.ndarray], dict[str, np.ndarray]]
"""Metrics `[R]` by name, of labels `[N, ...]`, predictions `[N, ...]` and weights `[N, R]`."""


@dataclass(frozen=True)
class Interval:
    """A value and its 95% interval.

    Attributes:
        value: On the examples as they are.
        low: The interval's lower end, the 2.5th percentile of the replicates.
        high: Its upper end.
    """

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def bootstrap(
    labels: np.ndarray,
    probabilities: np.ndarray,
    replicates: int = 1000,
    seed: int = 0,
    patients: np.ndarray | None = None,
    metrics: Weighted = weighted_metrics,
) -> dict[str, Interval]:
    """The metrics of a model, averaged over its seeds, each with the interval over patients.

    Args:
        labels: 0 or 1, `[N]`.
        probabilities: Of label 1 by each of the model's S seeds, `[S, N]`.
        replicates: How often the patients are drawn.
        seed: Decides the draws: models on the same examples get the same ones.
        patients: Whose each example is, `[N]`; by default each is a patient's only one.
        metrics: What is told; those of a binary prediction by default.

    Returns:
        For each metric. Replicates in which a metric isn't defined are left out of its interval.
    """
    drawn = averaged(labels, probabilities, replicates, seed, patients, metrics)
    return {name: _interval(values) for name, values in drawn.items()}


def bootstrap_difference(
    labels: np.ndarray,
    one: np.ndarray,
    other: np.ndarray,
    replicates: int = 1000,
    seed: int = 0,
    patients: np.ndarray | None = None,
    metrics: Weighted = weighted_metrics,
) -> dict[str, Interval]:
    """By how much one model's metrics, averaged over its seeds, are above another's on the same draws.

    Args:
        labels: 0 or 1, `[N]`.
        one: Probabilities of label 1 by each seed, `[S, N]`.
        other: The other model's, as many seeds or not, `[S', N]`.
        replicates: How often the patients are drawn.
        seed: Decides the draws.
        patients: Whose each example is, `[N]`.
        metrics: What is told.

    Returns:
        For each metric.
    """
    above, below = (averaged(labels, each, replicates, seed, patients, metrics) for each in (one, other))
    return {name: _interval(above[name] - below[name]) for name in above}


def averaged(
    labels: np.ndarray,
    probabilities: np.ndarray,
    replicates: int,
    seed: int,
    patients: np.ndarray | None = None,
    metrics: Weighted = weighted_metrics,
) -> dict[str, np.ndarray]:
    """The metrics, averaged over the model's seeds, on the examples as they are and on each draw.

    Args:
        labels: 0 or 1, `[N]`.
        probabilities: `[S, N]`.
        replicates: How many draws, R.
        seed: Decides them.
        patients: Whose each example is, `[N]`.
        metrics: What is told.

    Returns:
        For each metric, `[1 + R]`: first that on the examples as they are.
    """
    place = np.arange(len(labels)) if patients is None else np.unique(patients, return_inverse=True)[1]
    random = np.random.default_rng(seed)
    chunk = max(1, _CHUNK // max(1, len(labels)))
    sizes = [min(chunk, replicates - begin) for begin in range(0, replicates, chunk)]
    weights = [np.ones((len(labels), 1)), *(_draws(place, size, random) for size in sizes)]
    parts = [[metrics(labels, each, part) for each in probabilities] for part in weights]
    return {
        name: np.concatenate([np.mean([each[name] for each in part], axis=0) for part in parts])
        for name in parts[0][0]
    }


def _draws(place: np.ndarray, replicates: int, random: np.random.Generator) -> np.ndarray:
    """How often each example is drawn with its patient: `[N, R]`."""
    patients = place.max(initial=-1) + 1
    drawn = random.integers(0, patients, size=(replicates, patients))
    drawn += np.arange(replicates)[:, None] * patients
    counts = np.bincount(drawn.ravel(), minlength=replicates * patients).reshape(replicates, patients)
    return np.ascontiguousarray(counts.T[place], dtype=np.float32)


def _interval(values: np.ndarray) -> Interval:
    """Of the value on the examples as they are, and those of the draws: `[1 + R]`."""
    draws = values[1:][~np.isnan(values[1:])]
    if np.isnan(values[0]) or len(draws) == 0:
        return Interval(float(values[0]), np.nan, np.nan)
    low, high = np.percentile(draws, (2.5, 97.5))
    return Interval(float(values[0]), float(low), float(high))
