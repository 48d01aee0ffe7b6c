"""The AUROC of the true risk, which no model can exceed except by chance."""

from dataclasses import dataclass

import numpy as np


def rank_auroc(scores: np.ndarray, positive: np.ndarray) -> float | None:
    """Return the AUROC. Ties count half.

    Args:
        scores: float64 `[N]`.
        positive: Labels 0 and 1, or the probabilities of 1: float64 `[N]`. For probabilities, the result is
            the expectation of the AUROC's numerator over the expectation of its denominator.

    Returns:
        The AUROC, or None if all labels are equal.
    """
    positive = np.asarray(positive, dtype=np.float64)
    _, group = np.unique(scores, return_inverse=True)
    return _auroc(np.bincount(group, positive), np.bincount(group, 1 - positive), positive @ (1 - positive))


def _auroc(cases: np.ndarray, controls: np.ndarray, with_itself: float) -> float | None:
    """Return the AUROC of groups of equal scores, from the lowest to the highest.

    Args:
        cases: Expected number of cases of each group.
        controls: Expected number of others.
        with_itself: Expected number of pairs of a patient with itself.
    """
    below = np.cumsum(controls) - controls
    pairs = cases.sum() * controls.sum() - with_itself
    won = (cases * (below + controls / 2)).sum() - with_itself / 2
    return float(won / pairs) if pairs > 0 else None


@dataclass(frozen=True)
class BinnedRisks:
    """Sums over risks by series and bin. A bin is at most 1/256 of its value wide.

    Attributes:
        place: `series * BINS + bin`, in ascending order: int64 `[B]`.
        count: Number of risks: float64 `[B]`.
        total: Their sum: float64 `[B]`.
        squares: The sum of their squares: float64 `[B]`.
    """

    place: np.ndarray
    count: np.ndarray
    total: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, series: np.ndarray, risk: np.ndarray) -> "BinnedRisks":
        """Return the sums of risks.

        Args:
            series: The series of each risk, from 0: int64 `[N]`.
            risk: Risks from 0 to 1: float32 `[N]`.
        """
        place, member = np.unique(series * BINS + (risk.view(np.int32) >> _BITS), return_inverse=True)
        values = risk.astype(np.float64)
        return cls(place, *(np.bincount(member, values**power, len(place)) for power in (0, 1, 2)))


_BITS = 15
"""Bits of a float32 that a bin ignores."""

BINS = (int(np.float32(1).view(np.int32)) >> _BITS) + 1
"""Number of bins."""


class RiskTotals:
    """Adds the risks of chunks of patients, in memory that does not depend on the number of patients.

    Args:
        series: Number of series.
    """

    def __init__(self, series: int) -> None:
        self._sums = np.zeros((3, series * BINS))

    def add(self, risks: BinnedRisks) -> None:
        """Add the risks of a chunk."""
        for sums, values in zip(self._sums, (risks.count, risks.total, risks.squares), strict=True):
            sums[risks.place] += values

    def figures(self, series: int) -> tuple[int, float | None, float | None]:
        """Return the number of risks of a series, their mean, and the AUROC to expect of the true risk."""
        count, total, squares = self._sums[:, series * BINS : (series + 1) * BINS]
        patients = int(count.sum())
        if not patients:
            return 0, None, None
        area = _auroc(total, count - total, total.sum() - squares.sum())
        return patients, float(total.sum() / patients), area
