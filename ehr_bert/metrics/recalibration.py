"""Calibration slope and intercept: logistic regressions of the label on the predicted log odds.

Shapes: `N` examples, `R` bootstrap replicates (columns of weights), `F` features.
"""

import numpy as np

LEAST_PROBABILITY = 1e-7
"""Minimum distance of probabilities from 0 and 1, about the precision of float32, for finite log odds."""

_STEPS = 40
_TOLERANCE = 1e-4
"""Size of the last step. The remaining error of Newton's method is about its square."""
_LONGEST_STEP = 2.0
"""Maximum size of a step, since Newton's method can diverge from a distant start."""
_FLAT = 1e-10
"""Curvature, relative to its maximum, at which a likelihood is considered to have no maximum."""
_LARGEST_LOG_ODDS = 60.0
"""Log odds that are practically certain, and whose exponential is finite in float32."""


def logit(probabilities: np.ndarray) -> np.ndarray:
    """Return log odds, which are finite for 0 and 1 as well."""
    clipped = np.clip(np.asarray(probabilities, float), LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    return np.log(clipped) - np.log1p(-clipped)


def calibration_slope(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the slope of the labels' log odds over the predicted ones: below 1 if risks are too extreme.

    Args:
        labels: 0 or 1: `[N]`.
        probabilities: Predicted probability of label 1: `[N]`.
        weights: Number of times that each example counts in each replicate: `[N, R]`.

    Returns:
        `[R]`, NaN where the maximum-likelihood slope is not finite: all labels or all probabilities are
        equal, or the probabilities separate the labels.
    """
    return lines(labels, logit(probabilities), weights)[:, 1]


def calibration_intercept(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the intercept to add to the predicted log odds, with slope 1: below 0 if risks are too high.

    This is calibration in the large. Arguments and result are as in `calibration_slope`.
    """
    return logistic_fits(labels, np.ones((len(labels), 1)), logit(probabilities), weights)[:, 0]


def lines(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fit logistic regressions of the labels on one score.

    Args:
        labels: 0 or 1: `[N]`.
        scores: `[N]`.
        weights: Number of times that each example counts in each replicate: `[N, R]`.

    Returns:
        Intercepts and slopes: `[R, 2]`, NaN where the likelihood has no finite maximum.
    """
    mean, deviation = scores.mean(), scores.std() or 1.0
    features = np.stack([np.ones(len(scores)), (scores - mean) / deviation], axis=1)  # [N, 2]
    intercept, slope = logistic_fits(labels, features, np.zeros(len(scores)), weights).T
    return np.stack([intercept - slope * mean / deviation, slope / deviation], axis=1)


def logistic_fits(
    labels: np.ndarray, features: np.ndarray, offset: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Fit logistic regressions without penalty by Newton's method, one per column of weights.

    Several columns start from the fit with their mean weights, which is close to all of them.

    Args:
        labels: 0 or 1: `[N]`.
        features: `[N, F]`, with a constant 1 first.
        offset: Term added to the log odds: `[N]`.
        weights: `[N, R]`. Sums are computed in their precision.

    Returns:
        Coefficients: float64 `[R, F]`, NaN where the likelihood has no finite maximum.
    """
    replicates, width = weights.shape[1], features.shape[1]
    fitted = np.full((replicates, width), np.nan)
    start = np.zeros((1, width))
    if replicates > 1:
        mean = weights.mean(axis=1, keepdims=True, dtype=float)
        start = np.nan_to_num(logistic_fits(labels, features, offset, mean))
    columns, coefficients = np.arange(replicates), np.repeat(start, replicates, axis=0)
    features, offset = features.astype(weights.dtype), offset.astype(weights.dtype)[:, None]
    products = (features[:, :, None] * features[:, None, :]).reshape(-1, width**2)  # [N, F * F]
    outcomes = weights.T @ (labels[:, None] * features).astype(weights.dtype)  # [R, F]
    for step_number in range(_STEPS):
        current = coefficients[:1] if step_number == 0 else coefficients
        risk = _expit(
            offset + features @ current.T.astype(weights.dtype)
        )  # [N, R], or [N, 1] in the first step
        expected = weights * risk  # [N, R]
        gradient = (outcomes - expected.T @ features).astype(float)  # [R, F]
        expected *= 1 - risk
        curvature = (expected.T @ products).astype(float).reshape(-1, width, width)  # [R, F, F]
        diagonal = np.diagonal(curvature, axis1=1, axis2=2)  # [R, F]
        finite = np.linalg.det(curvature) > _FLAT * diagonal.prod(axis=1)
        finite &= diagonal[:, 0] > _FLAT * weights.sum(axis=0)
        step = np.full_like(coefficients, np.nan)
        step[finite] = np.linalg.solve(curvature[finite], gradient[finite][:, :, None])[:, :, 0]
        size = np.abs(step).max(axis=1)
        coefficients = (
            coefficients + step * np.minimum(1, _LONGEST_STEP / np.maximum(size, _LONGEST_STEP))[:, None]
        )
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
    """Apply the logistic function in place."""
    np.clip(log_odds, -_LARGEST_LOG_ODDS, _LARGEST_LOG_ODDS, out=log_odds)
    np.exp(np.negative(log_odds, out=log_odds), out=log_odds)
    log_odds += 1
    return np.reciprocal(log_odds, out=log_odds)
