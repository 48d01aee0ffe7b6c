"""Whether risks are as high as told: the outcome regressed on the logit of the predicted probability."""

import numpy as np

LEAST_PROBABILITY = 1e-7
"""Probabilities are kept this far from 0 and 1, as far as float32 goes, so that logits are finite."""

_STEPS = 40
_TOLERANCE = 1e-4
"""Of a last step: Newton's error is then about its square."""
_LONGEST = 2.0
"""Of a step: Newton's may lead astray where the start is far off."""
_FLAT = 1e-10
"""Curvature, as a share of what it could be, at which a likelihood has no maximum."""
_LARGEST = 60.0
"""Log odds that are as good as certain, and that float32 can take the exponent of."""


def logit(probabilities: np.ndarray) -> np.ndarray:
    """Log odds, finite for 0 and 1 too."""
    kept = np.clip(np.asarray(probabilities, float), LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    return np.log(kept) - np.log1p(-kept)


def calibration_slope(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The slope of the outcome's log odds over the predicted ones: below 1 where risks are too extreme.

    Args:
        labels: 0 or 1, `[N]`.
        probabilities: `[N]`.
        weights: How often each example counts in each replicate, `[N, R]`.

    Returns:
        `[R]`, NaN where no finite slope is likeliest: one outcome alone, one probability, or both parted.
    """
    return lines(labels, logit(probabilities), weights)[:, 1]


def calibration_intercept(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """What must be added to the predicted log odds, the slope held at 1: below 0 where risks are too high.

    This is calibration in the large. Arguments and result are as of `calibration_slope`.
    """
    return logistic_fits(labels, np.ones((len(labels), 1)), logit(probabilities), weights)[:, 0]


def lines(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Logistic regressions of outcomes on one score.

    Args:
        labels: 0 or 1, `[N]`.
        scores: `[N]`.
        weights: How often each example counts in each replicate, `[N, R]`.

    Returns:
        Intercepts and slopes, `[R, 2]`; NaN where the likelihood has no finite maximum.
    """
    mean, deviation = scores.mean(), scores.std() or 1.0
    features = np.stack([np.ones(len(scores)), (scores - mean) / deviation], axis=1)  # [N, 2]
    intercept, slope = logistic_fits(labels, features, np.zeros(len(scores)), weights).T
    return np.stack([intercept - slope * mean / deviation, slope / deviation], axis=1)


def logistic_fits(
    labels: np.ndarray, features: np.ndarray, offset: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Logistic regressions without penalty by Newton's steps, one a column of weights.

    Several columns start from the fit with their mean weights, which is near all of theirs.

    Args:
        labels: 0 or 1, `[N]`.
        features: `[N, K]`, a constant 1 first.
        offset: Added to the log odds, `[N]`.
        weights: `[N, R]`; sums are taken in their precision.

    Returns:
        Coefficients, float64 `[R, K]`; NaN where the likelihood has no finite maximum.
    """
    replicates, width = weights.shape[1], features.shape[1]
    fitted = np.full((replicates, width), np.nan)
    start = np.zeros((1, width))
    if replicates > 1:
        mean = weights.mean(axis=1, keepdims=True, dtype=float)
        start = np.nan_to_num(logistic_fits(labels, features, offset, mean))
    columns, coefficients = np.arange(replicates), np.repeat(start, replicates, axis=0)
    features, offset = features.astype(weights.dtype), offset.astype(weights.dtype)[:, None]
    products = (features[:, :, None] * features[:, None, :]).reshape(-1, width**2)  # [N, K * K]
    outcomes = weights.T @ (labels[:, None] * features).astype(weights.dtype)  # [R, K]
    for step_number in range(_STEPS):
        at = coefficients[:1] if step_number == 0 else coefficients
        risk = _expit(offset + features @ at.T.astype(weights.dtype))  # [N, R], or [N, 1] where all start
        expected = weights * risk  # [N, R]
        gradient = (outcomes - expected.T @ features).astype(float)  # [R, K]
        expected *= 1 - risk
        curvature = (expected.T @ products).astype(float).reshape(-1, width, width)  # [R, K, K]
        diagonal = np.diagonal(curvature, axis1=1, axis2=2)  # [R, K]
        finite = np.linalg.det(curvature) > _FLAT * diagonal.prod(axis=1)
        finite &= diagonal[:, 0] > _FLAT * weights.sum(axis=0)
        step = np.full_like(coefficients, np.nan)
        step[finite] = np.linalg.solve(curvature[finite], gradient[finite][:, :, None])[:, :, 0]
        size = np.abs(step).max(axis=1)
        coefficients = coefficients + step * np.minimum(1, _LONGEST / np.maximum(size, _LONGEST))[:, None]
        done = size <= _TOLERANCE
        fitted[columns[done]] = coefficients[done]
        more = size > _TOLERANCE
        if not more.any():
            break
        if not more.all():
            columns, coefficients, outcomes = columns[more], coefficients[more], outcomes[more]
            weights = weights[:, more]
    return fitted


def _expit(log_odds: np.ndarray) -> np.ndarray:
    """The logistic function, in place."""
    np.clip(log_odds, -_LARGEST, _LARGEST, out=log_odds)
    np.exp(np.negative(log_odds, out=log_odds), out=log_odds)
    log_odds += 1
    return np.reciprocal(log_odds, out=log_odds)
