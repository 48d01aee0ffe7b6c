"""Figures of predictions by kind of task, where examples count several times or not at all.

    N  examples        O  outputs        R  replicates: columns of weights, how often each example counts

They are called as `ehr_bert.metrics.bootstrap` calls metrics: with labels `[N, O]`, NaN where one isn't
known, predictions `[N, O]` and weights `[N, R]`.
"""

import numpy as np

from ehr_bert.metrics.bootstrap import WeightedMetrics
from ehr_bert.metrics.discrimination import auroc, average_precision, thresholds
from ehr_bert.metrics.summary import weighted_metrics
from ehr_bert.schemas import TaskKind

_CELLS = 8_000_000
"""Weights of labels that are held at once."""


def of_known(labels: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """The metrics of a binary prediction, over every known label: `[R]` each."""
    example, output = np.nonzero(~np.isnan(labels))
    return weighted_metrics(labels[example, output], predictions[example, output], weights[example])


def of_codes(labels: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """How well codes that are true are told from those that aren't: `[R]` each.

    The macro figures are means over the codes, each ranked over the examples, of those that are true of some
    and not of others; the micro figures rank all examples' codes together.
    """
    by_code = [_ranked(*column, weights) for column in zip(labels.T, predictions.T, strict=True)]
    names = by_code[0]
    macro = {name: _mean_of_known(np.stack([each[name] for each in by_code])) for name in names}
    chunks = np.array_split(weights, -(-weights.shape[1] * labels.size // _CELLS), axis=1)
    flat, scores = labels.ravel(), predictions.ravel()
    micro = [_ranked(flat, scores, each.repeat(labels.shape[1], axis=0)) for each in chunks]
    return {f"macro_{name}": macro[name] for name in names} | {
        f"micro_{name}": np.concatenate([each[name] for each in micro]) for name in names
    }


def of_numbers(labels: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """How near predicted numbers come: `[R]` each, of the first output.

    `r2` is the share of the variance that is explained, `spearman` the correlation of ranks.
    """
    labels, predictions = labels[:, 0].astype(float), predictions[:, 0].astype(float)
    weights = weights.astype(float)
    total = weights.sum(axis=0)
    errors = labels - predictions
    mean = labels @ weights / total
    variance = ((labels[:, None] - mean) ** 2 * weights).sum(axis=0)
    return {
        "r2": 1 - _ratio(errors**2 @ weights, variance),
        "mean_absolute_error": np.abs(errors) @ weights / total,
        "spearman": _correlation(_ranks(labels, weights), _ranks(predictions, weights), weights),
    }


TASK_MEASURES: dict[TaskKind, WeightedMetrics] = {
    TaskKind.BINARY: of_known,
    TaskKind.VISITS: of_known,
    TaskKind.MULTILABEL: of_codes,
    TaskKind.REGRESSION: of_numbers,
}
"""The figures of each kind."""


def _ranked(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    found = thresholds(labels, scores, weights)
    return {"auroc": auroc(found), "average_precision": average_precision(found)}


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    """The mean over the rows that aren't NaN, of each column."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0).sum(axis=0), known.sum(axis=0))


def _ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The rank of each value among as many copies as its weight tells, equal values at the mean of theirs.

    Returns:
        `[N, R]`.
    """
    distinct, place = np.unique(values, return_inverse=True)
    counts = np.zeros((len(distinct), weights.shape[1]))
    np.add.at(counts, place, weights)
    return (np.cumsum(counts, axis=0) - (counts - 1) / 2)[place]


def _correlation(one: np.ndarray, other: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Pearson's, of each column: `[R]` of three `[N, R]`."""
    total = weights.sum(axis=0)
    one, other = (each - (each * weights).sum(axis=0) / total for each in (one, other))
    variances = [(each**2 * weights).sum(axis=0) for each in (one, other)]
    return _ratio((one * other * weights).sum(axis=0), np.sqrt(variances[0] * variances[1]))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """`part / whole`, NaN where there is no whole."""
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0, dtype=float)
