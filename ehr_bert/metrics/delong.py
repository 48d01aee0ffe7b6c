"""DeLong's paired test of the AUROCs of two models on the same examples (DeLong et al. 1988).

It is computed from midranks (Sun and Xu 2014), which requires sorting instead of comparing all pairs.
"""

from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import norm, rankdata

from ehr_bert.errors import UserError


@dataclass(frozen=True)
class DeLong:
    """Comparison of two AUROCs.

    Attributes:
        auroc_one: AUROC of the first model.
        auroc_other: AUROC of the second model.
        difference: First AUROC minus second AUROC.
        low: Lower end of the 95% confidence interval of the difference.
        high: Upper end of the interval.
        p_value: Two-sided p value of no difference.
    """

    auroc_one: float
    auroc_other: float
    difference: float
    low: float
    high: float
    p_value: float

    def to_dict(self) -> dict[str, float]:
        """Return the fields for JSON."""
        return asdict(self)


def delong(labels: np.ndarray, one: np.ndarray, other: np.ndarray) -> DeLong:
    """Compare two models on the same examples, each of which belongs to a different patient.

    Args:
        labels: 0 or 1: `[N]`.
        one: Scores or probabilities of the first model: `[N]`, or `[seeds, N]`. With several seeds, the
            AUROCs and the placements that their variance is computed from are averaged.
        other: Those of the second model, which may have another number of seeds.

    Raises:
        UserError: There are fewer than two cases or fewer than two controls (key `too-few-cases`).
    """
    positive = np.asarray(labels) == 1
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if min(positives, negatives) < 2:
        raise UserError(
            "too-few-cases",
            f"AUROCs cannot be compared with {positives} cases and {negatives} controls. Use a cohort "
            "with at least two of each.",
        )
    placements = [_placements(positive, np.atleast_2d(np.asarray(scores, float))) for scores in (one, other)]
    above, below = map(np.stack, zip(*placements, strict=True))  # [2, cases], [2, controls]
    areas = above.mean(axis=1)
    covariance = np.cov(above) / positives + np.cov(below) / negatives  # [2, 2]
    difference = areas[0] - areas[1]
    deviation = np.sqrt(max(0.0, np.array([1, -1]) @ covariance @ np.array([1, -1])))
    reach = norm.ppf(0.975) * deviation
    z = difference / deviation if deviation > 0 else 0.0 if difference == 0 else np.inf
    return DeLong(
        auroc_one=float(areas[0]),
        auroc_other=float(areas[1]),
        difference=float(difference),
        low=float(difference - reach),
        high=float(difference + reach),
        p_value=float(2 * norm.sf(abs(z))),
    )


def _placements(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of examples with the other label against which each example is ranked correctly.

    Args:
        positive: Whether each example is a case: bool `[N]`.
        scores: `[seeds, N]`.

    Returns:
        Means over the seeds for the cases, `[cases]`, and for the controls, `[controls]`.
    """
    positives, negatives = positive.sum(), (~positive).sum()
    ranks = rankdata(scores, axis=1)  # [seeds, N]
    above = (ranks[:, positive] - rankdata(scores[:, positive], axis=1)) / negatives  # [seeds, cases]
    below = (
        1 - (ranks[:, ~positive] - rankdata(scores[:, ~positive], axis=1)) / positives
    )  # [seeds, controls]
    return above.mean(axis=0), below.mean(axis=0)
