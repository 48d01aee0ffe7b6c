"""Decision curves: the net benefit of treatment by predicted risk (Vickers and Elkin 2006)."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit at several risk thresholds.

    The unit is true positives per example. False positives are subtracted with the odds of the threshold as
    their weight.

    Attributes:
        threshold: Risk from which patients are treated.
        model: Net benefit of treating patients whose predicted risk is at or above the threshold.
        everyone: Net benefit of treating all patients. That of treating none is 0.
    """

    threshold: np.ndarray
    model: np.ndarray
    everyone: np.ndarray


def decision_curve(labels: np.ndarray, probabilities: np.ndarray, threshold: np.ndarray) -> DecisionCurve:
    """Return the net benefit of a model at each threshold.

    Args:
        labels: 0 or 1: `[N]`.
        probabilities: Predicted probability of label 1: `[N]`.
        threshold: Risk thresholds below 1.
    """
    labels, examples = np.asarray(labels, float), len(labels)
    order = np.argsort(probabilities)
    cases = np.append(0, np.cumsum(labels[order]))  # [N + 1], cases among the smallest risks
    below = np.searchsorted(probabilities[order], threshold, side="left")
    true_positives = (cases[-1] - cases[below]) / examples
    false_positives = (examples - below) / examples - true_positives
    odds = threshold / (1 - threshold)
    prevalence = labels.mean()
    return DecisionCurve(
        threshold, true_positives - odds * false_positives, prevalence - odds * (1 - prevalence)
    )
