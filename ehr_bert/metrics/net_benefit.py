"""Decision curves: what acting on a model's risks is worth (Vickers and Elkin 2006)."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit over the risk from which one would act, `K` of them.

    A net benefit is in true positives an example: false ones are taken off at the odds of the threshold.

    Attributes:
        threshold: `[K]`.
        model: Of acting where the model's risk is at or above the threshold, `[K]`.
        everyone: Of acting on everyone, `[K]`; that of acting on nobody is 0.
    """

    threshold: np.ndarray
    model: np.ndarray
    everyone: np.ndarray


def decision_curve(labels: np.ndarray, probabilities: np.ndarray, threshold: np.ndarray) -> DecisionCurve:
    """The net benefit of a model at each threshold.

    Args:
        labels: 0 or 1, `[N]`.
        probabilities: `[N]`.
        threshold: Risks below 1, `[K]`.
    """
    labels, examples = np.asarray(labels, float), len(labels)
    order = np.argsort(probabilities)
    found = np.append(0, np.cumsum(labels[order]))  # [N + 1], of those with the smallest risks
    below = np.searchsorted(probabilities[order], threshold, side="left")  # [K]
    true_positives = (found[-1] - found[below]) / examples
    false_positives = (examples - below) / examples - true_positives
    odds = threshold / (1 - threshold)
    prevalence = labels.mean()
    return DecisionCurve(
        threshold, true_positives - odds * false_positives, prevalence - odds * (1 - prevalence)
    )
