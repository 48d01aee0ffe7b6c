"""Whether two models' AUROCs on the same examples differ: the paired test of DeLong et al. (1988).

By midranks, as Sun and Xu (2014) compute it: a sorting in place of all pairs.
"""

from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import norm, rankdata

from ehr_bert.errors import UserError


@dataclass(frozen=True)
class DeLong:
    """Two AUROCs compared.

    Attributes:
        auroc_one: Of the first model.
        auroc_other: Of the second.
        difference: The first's less the second's.
        low: Lower end of the difference's 95% interval.
        high: Its upper end.
        p_value: Two-sided, of no difference.
    """

    auroc_one: float
    auroc_other: float
    difference: float
    low: float
    high: float
    p_value: float

    def to_dict(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)


def delong(labels: np.ndarray, one: np.ndarray, other: np.ndarray) -> DeLong:
    """Compares two models on the same examples, each of another patient.

    Args:
        labels: 0 or 1, `[N]`.
        one: The first model's scores or probabilities, `[N]`; or `[S, N]` by each of its seeds, whose AUROCs
            are averaged, and so are the placements whose variance is theirs.
        other: The second model's, as many seeds or not.

    Raises:
        UserError: fewer than two examples have the outcome, or fewer than two don't.
    """
    positive = np.asarray(labels) == 1
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if min(positives, negatives) < 2:
        raise UserError(
            f"AUROCs can't be compared on {positives} examples with the outcome and {negatives} without it: "
            "at least two of each are needed"
        )
    placed = [_placements(positive, np.atleast_2d(np.asarray(each, float))) for each in (one, other)]
    above, below = (np.stack(each) for each in zip(*placed, strict=True))  # [2, P], [2, M]
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
    """The share of the other outcome's examples that each one is on the right side of, averaged over seeds.

    Args:
        positive: Who has the outcome: bool `[N]`, P of them.
        scores: `[S, N]`.

    Returns:
        Of those with the outcome, `[P]`, and of the others, `[N - P]`.
    """
    positives, negatives = positive.sum(), (~positive).sum()
    ranks = rankdata(scores, axis=1)  # [S, N]
    above = (ranks[:, positive] - rankdata(scores[:, positive], axis=1)) / negatives  # [S, P]
    below = 1 - (ranks[:, ~positive] - rankdata(scores[:, ~positive], axis=1)) / positives  # [S, N - P]
    return above.mean(axis=0), below.mean(axis=0)
