"""States of patients at the start of enrolment.

They are drawn from the distribution of a patient who was healthy at age 18, has aged under the same hazards
without enrolment, and is alive. It also gives the probabilities of the hidden facts for given diseases.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from ehr_bert.simulation.choices import Choices
from ehr_bert.simulation.mechanism import FIRST_YEAR, YEAR_DAYS, Mechanism
from ehr_bert.simulation.states import (
    CORE_DISEASES,
    DISEASES,
    HIDDEN_STATES,
    LEAF_DISEASES,
    STATES,
    TARGETS,
    Transition,
)
from ehr_bert.simulation.uniformisation import poisson_weights

ADULT_AGE, OLDEST = 18, 90
"""Youngest and oldest age in years at the start of enrolment."""

_LEAVES = 2 ** len(LEAF_DISEASES)


@dataclass(frozen=True)
class InitialStates:
    """Distribution of the states at the start of enrolment, by sex and age.

    Attributes:
        probabilities: Probability of each combination of leaf flags and state: float64 `[2, ages, flags,
            STATES]`, for ages from `ADULT_AGE` to `OLDEST`. The sum over the last two axes is 1.
    """

    probabilities: np.ndarray

    @classmethod
    def of(cls, mechanism: Mechanism) -> "InitialStates":
        """Compute the distribution under a mechanism, with the rates of the first calendar year."""
        ages = range(ADULT_AGE, OLDEST + 1)
        healthy = np.zeros((_LEAVES, STATES))
        healthy[0, 0] = 1
        sexes = []
        for sex in (0, 1):
            current, by_age = healthy, []
            for age in ages:
                by_age.append(_without_order(current))
                current = _after_a_year(current, mechanism.rates(sex, age, FIRST_YEAR))
            sexes.append(by_age)
        return cls(np.array(sexes))

    def draw(self, sex: np.ndarray, age: np.ndarray, quantiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Draw the leaf flags and the state of each patient: int64 `[Z]` each, from quantiles in [0, 1)."""
        ages = self.probabilities.shape[1]
        choices = Choices(list(self.probabilities.reshape(2 * ages, -1)))
        item = choices.draw(sex * ages + age - ADULT_AGE, quantiles) % (_LEAVES * STATES)
        return item // STATES, item % STATES

    def hidden(
        self, sex: np.ndarray, age: np.ndarray, leaves: np.ndarray, recorded: np.ndarray
    ) -> np.ndarray:
        """Return the probabilities of the hidden states, given the diseases: float64 `[Z, HIDDEN_STATES]`."""
        first = recorded * HIDDEN_STATES
        states = first[:, None] + np.arange(HIDDEN_STATES)
        joint = self.probabilities[sex[:, None], (age - ADULT_AGE)[:, None], leaves[:, None], states]
        return joint / joint.sum(1, keepdims=True)


def _after_a_year(current: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Return the distribution of survivors a year later."""
    moving = [
        *range(len(CORE_DISEASES)),
        Transition.ACUTE,
        Transition.FRAILTY,
        Transition.RECOVERY,
        Transition.DAMAGE,
    ]
    leaf_rates = rates[len(CORE_DISEASES) : len(DISEASES)]  # [leaves, STATES]
    out = rates[moving].sum(0) + rates[Transition.DEATH]
    top = (out + leaf_rates.sum(0)).max()
    # Rows of the transposed matrix are the states after a jump.
    jumps = sparse.csr_matrix(
        (
            (rates[moving] / top).ravel(),
            (TARGETS[moving].ravel(), np.tile(np.arange(STATES), len(moving))),
        ),
        shape=(STATES, STATES),
    )
    flags = np.arange(_LEAVES)
    absent = [flags >> number & 1 == 0 for number in range(len(LEAF_DISEASES))]
    stays = 1 - (out + np.array(absent).T @ leaf_rates) / top  # [_LEAVES, STATES]
    result, step = np.zeros_like(current), current
    for weight in poisson_weights(top * YEAR_DAYS):
        result += weight * step
        moved = (jumps @ step.T).T + step * stays
        for without, rate in zip(absent, leaf_rates, strict=True):
            moved[~without] += step[without] * (rate / top)
        step = moved
    return result / result.sum()


def _without_order(current: np.ndarray) -> np.ndarray:
    """Return the distribution after the order of diseases is forgotten, which no record at entry shows."""
    ordered = current.reshape(_LEAVES, -1, 2, HIDDEN_STATES)
    forgotten = np.zeros_like(ordered)
    forgotten[:, :, 0] = ordered.sum(2)
    return forgotten.reshape(current.shape)
