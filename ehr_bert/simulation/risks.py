"""True risks: the probability of each disease, and of death, within a horizon, for every state.

Hazards are constant within a calendar year, so risks solve a linear system of differential equations
(Kolmogorov's backward equation), one calendar year after the other, which uniformisation solves to 1e-12.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from ehr_bert.simulation.mechanism import Mechanism
from ehr_bert.simulation.states import CORE_DISEASES, DISEASES, HAS, STATES, TARGETS, Transition
from ehr_bert.simulation.trajectories import DAY, start_of_year, year_of
from ehr_bert.simulation.uniformisation import poisson_weights

OUTCOMES = (*DISEASES, "death")
"""The outcomes whose risk is known, by position."""

_MOVING = [
    *range(len(CORE_DISEASES)),
    Transition.ACUTE,
    Transition.FRAILTY,
    Transition.RECOVERY,
    Transition.DAMAGE,
]
_ROWS = np.tile(np.arange(STATES), len(_MOVING))
_COLUMNS = TARGETS[_MOVING].ravel()


@dataclass(frozen=True)
class RiskTable:
    """Risks of all states of one sex and year of birth, from one time on.

    Attributes:
        with_death: Probability of each outcome within each horizon; a patient who dies before it does not
            have it: float64 `[STATES, outcomes, horizons]`.
        without_death: The same if no patient died; NaN for the outcome death.
    """

    with_death: np.ndarray
    without_death: np.ndarray


def risk_table(
    mechanism: Mechanism, sex: int, birth_year: int, day: int, horizons: Sequence[int]
) -> RiskTable:
    """Compute the risks from the start of a day.

    Args:
        mechanism: The mechanism.
        sex: 0 female, 1 male.
        birth_year: Year of birth.
        day: Day in days since 1970-01-01.
        horizons: Lengths in days. A horizon of 1 is the day itself.

    Returns:
        The risks. A disease that is part of the state has the risk 1.
    """
    with_death = _risks(mechanism, sex, birth_year, day, horizons, with_death=True)
    without = _risks(mechanism, sex, birth_year, day, horizons, with_death=False)
    without[:, -1] = np.nan
    return RiskTable(with_death, without)


def _risks(
    mechanism: Mechanism, sex: int, birth_year: int, day: int, horizons: Sequence[int], with_death: bool
) -> np.ndarray:
    """Solve backwards from the end of the longest horizon; each shorter one joins at its own end."""
    start = day * DAY
    ends = start + np.array(horizons) * DAY
    new_years = start_of_year(np.arange(int(year_of(np.array(start))) + 1, int(year_of(ends.max() - 1)) + 1))
    cuts = np.unique(np.concatenate([[start], ends, new_years]))
    risks = np.zeros((STATES, len(OUTCOMES), len(horizons)))
    for number in range(len(CORE_DISEASES)):
        risks[HAS[number], number] = 1
    for before, after in zip(cuts[-2::-1], cuts[:0:-1], strict=True):
        year = int(year_of(np.array(before)))
        rates = mechanism.rates(sex, year - birth_year, year)
        running = ends >= after
        risks[:, :, running] = _backward(rates, risks[:, :, running], (after - before) / DAY, with_death)
    return risks


def _backward(rates: np.ndarray, risks: np.ndarray, days: float, with_death: bool) -> np.ndarray:
    """Return the risks at the start of a period from those at its end: float64 `[STATES, outcomes, n]`."""
    moving = rates[_MOVING]
    death = rates[Transition.DEATH] if with_death else np.zeros(STATES)
    leaf = rates[len(CORE_DISEASES) : len(DISEASES)]
    out = moving.sum(0)
    top = (out + death + leaf.max(0)).max()
    jumps = sparse.csr_matrix(((moving / top).ravel(), (_ROWS, _COLUMNS)), shape=(STATES, STATES))
    # Per outcome, the rate of reaching it without a change of state, and the rate of dying before.
    reached = np.zeros((STATES, len(OUTCOMES)))
    reached[:, len(CORE_DISEASES) : len(DISEASES)] = leaf.T
    reached[:, -1] = death
    lost = np.tile(death[:, None], len(OUTCOMES))
    lost[:, -1] = 0
    stays = 1 - (out[:, None] + reached + lost) / top
    flat = risks.reshape(STATES, -1)
    count = risks.shape[2]
    stays, gained = (np.repeat(values, count, axis=1) for values in (stays, reached / top))
    is_known = np.zeros((STATES, len(OUTCOMES)), bool)
    is_known[:, : len(HAS)] = HAS.T
    fixed = np.repeat(is_known, count, axis=1)
    total, step = np.zeros_like(flat), flat
    for weight in poisson_weights(top * days):
        total += weight * step
        step = jumps @ step + stays * step + gained
        step[fixed] = 1
    return total.reshape(risks.shape)
