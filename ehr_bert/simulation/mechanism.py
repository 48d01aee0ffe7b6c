"""Hazards of the simulated patients: what makes each event more or less likely.

A hazard is the product of a base rate, by sex, age and calendar year, and a multiplier, by state. Age is the
calendar year minus the year of birth. Hazards therefore change on 1 January and at events only, so that the
true risks can be computed without sampling.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

import numpy as np

from ehr_bert.simulation.states import (
    DIABETES,
    DISEASES,
    FIBRILLATION,
    FRAILTY,
    HAS,
    HEART_FAILURE,
    HIDDEN_STATES,
    HYPERTENSION,
    IN_ORDER,
    IS_DAMAGED,
    IS_VULNERABLE,
    KIDNEY_DISEASE,
    POSSIBLE,
    STROKE,
    TRANSITIONS,
    Transition,
)

AGES = 121
"""Ages from 0 to 120 years have rates. Older patients have the rates of age 120."""

FIRST_YEAR, LAST_YEAR = 2009, 2040
"""First and last calendar year with rates. Later years have the rates of the last."""

_SYMPTOMS = (
    "fever_fatigue",
    "sleep_problem",
    "dizziness_syncope",
    "breathing_symptoms",
    "edema_weight_change",
    "abnormal_results",
)

YEAR_DAYS = 365.25
"""Rates per year are divided by this number to obtain rates per day."""


@dataclass(frozen=True)
class Mechanism:
    """Hazards of all events, and the symptoms that reveal the hidden state.

    Attributes:
        base: Rates per day by kind of event, sex (0 female, 1 male), age and calendar year from `FIRST_YEAR`:
            float64 `[TRANSITIONS, 2, AGES, years]`.
        multiplier: Multiplier of the rate in each state: float64 `[TRANSITIONS, STATES]`.
        symptoms: Probability that a new visit records a symptom, by symptom and hidden state: float64
            `[HIDDEN_STATES]` each.
    """

    base: np.ndarray
    multiplier: np.ndarray
    symptoms: dict[str, np.ndarray]

    def rates(self, sex: int, age: int, year: int) -> np.ndarray:
        """Return the rates per day of all events in all states: float64 `[TRANSITIONS, STATES]`."""
        return self.base_rates(sex, age, year)[:, None] * self.multiplier

    def base_rates(self, sex: np.ndarray | int, age: np.ndarray | int, year: np.ndarray | int) -> np.ndarray:
        """Return base rates per day: float64 `[TRANSITIONS, ...]`."""
        years = np.clip(np.asarray(year) - FIRST_YEAR, 0, LAST_YEAR - FIRST_YEAR)
        return self.base[:, sex, np.clip(age, 0, AGES - 1), years]


class Preset(StrEnum):
    """Mechanisms that `ehr-bert simulate` offers."""

    DEFAULT = "default"
    CONSTANT_HAZARD = "constant-hazard"


def mechanism_of(preset: Preset, visits: float, informative_censoring: float = 0.0) -> Mechanism:
    """Return a mechanism.

    Args:
        preset: Its name.
        visits: Approximate mean number of visits per patient.
        informative_censoring: Share of the hazard of leaving that depends on frailty, from 0 to 1.
    """
    return _MECHANISMS[preset](visits, informative_censoring)


def _default(visits: float, informative_censoring: float) -> Mechanism:
    """Return a mechanism in which each disease depends on the past in another way.

    Rates are per 1,000 patient-years at the age of 60.
    """
    number = {name: position for position, name in enumerate(DISEASES)}
    rate = np.zeros(TRANSITIONS)
    growth = np.zeros(TRANSITIONS)  # of the logarithm of the rate, per year of age
    male = np.ones(TRANSITIONS)
    trend = np.ones(TRANSITIONS)  # factor per calendar year
    multiplier = POSSIBLE.astype(np.float64)
    burden = HAS.sum(0)

    def event(
        key: str | Transition,
        thousandths: float,
        age: float = 0.0,
        men: float = 1.0,
        yearly: float = 1.0,
        factor: np.ndarray | float = 1.0,
    ) -> None:
        index = number[key] if isinstance(key, str) else key
        rate[index], growth[index], male[index], trend[index] = thousandths / 1000, age, men, yearly
        multiplier[index] *= factor

    event("hypertension", 35, 0.03, 1.1, 1.01)
    event("diabetes", 10, 0.015, 1.2, 1.02, 2.0**HYPERTENSION)
    event("atrial_fibrillation", 5, 0.07, 1.3, factor=1.5**HYPERTENSION * 3.0**HEART_FAILURE)
    event(
        "heart_failure",
        4.5,
        0.06,
        factor=1.7**HYPERTENSION
        * 1.7**DIABETES
        * 1.8 ** (HYPERTENSION & DIABETES)
        * 2.2**FIBRILLATION
        * 1.6**KIDNEY_DISEASE,
    )
    event("chronic_kidney_disease", 2.5, 0.03, factor=14.0**IS_DAMAGED)
    event("cerebrovascular_disease", 4, 0.055, factor=7.0**IS_VULNERABLE * 2.0**FIBRILLATION)
    event("depression", 7, -0.02, 0.6, factor=np.array([1, 2.5, 6])[FRAILTY])
    event("peripheral_artery_disease", 5, 0.03, 1.5, factor=1.5**DIABETES * 6.0**IN_ORDER)
    # This disease is for blind evaluation: no document describes its hazard.
    event(
        "rheumatoid_arthritis",
        2.5,
        factor=6.0 ** (IS_VULNERABLE & ~DIABETES) * 0.3**DIABETES * 2.5 ** (burden % 2 == 1),
    )
    event(
        Transition.DEATH,
        5.5,
        0.085,
        1.4,
        0.99,
        np.array([1, 2.2, 5])[FRAILTY]
        * 2.0**HEART_FAILURE
        * 1.5**STROKE
        * 1.5**KIDNEY_DISEASE
        * 1.2**DIABETES
        * 2.0**IS_VULNERABLE,
    )
    event(
        Transition.ACUTE,
        80,
        0.025,
        factor=np.array([1, 2, 4])[FRAILTY] * 1.5**HEART_FAILURE * 1.3**DIABETES,
    )
    event(Transition.FRAILTY, 30, 0.05, factor=1.0 + (FRAILTY == 1))
    event(Transition.RECOVERY, 2000)
    event(Transition.DAMAGE, 45, factor=np.where(HYPERTENSION, 1.0, 0) + np.where(DIABETES, 1.7, 0))
    by_frailty = np.array([0.4, 1.6, 5])[FRAILTY]
    event(Transition.LEAVING, 50, factor=1 - informative_censoring + informative_censoring * by_frailty)
    event(
        Transition.VISIT,
        1000 * max(visits - 2, 0) / 8.3,
        factor=(1 + 0.25 * burden) * np.array([1, 1.3, 1.7])[FRAILTY],
    )

    ages, years = np.arange(AGES), np.arange(FIRST_YEAR, LAST_YEAR + 1)
    base = rate[:, None, None, None] * np.ones((1, 2, AGES, len(years)))
    base[:, 1] *= male[:, None, None]
    base *= np.exp(growth[:, None] * (np.clip(ages, 18, 105) - 60))[:, None, :, None]
    base *= (trend[:, None] ** (years - 2012))[:, None, None, :]
    arthritis_by_age = 0.6 + ((ages - 55) / 22) ** 2
    base[number["rheumatoid_arthritis"]] *= np.clip(arthritis_by_age, 0.6, 3)[None, :, None]
    hidden = np.arange(HIDDEN_STATES)
    frailty, vulnerable, damaged = hidden // 4, hidden // 2 % 2, hidden % 2
    probabilities = (
        np.array([0.04, 0.10, 0.22])[frailty],
        np.array([0.03, 0.06, 0.12])[frailty],
        np.array([0.02, 0.05, 0.12])[frailty],
        0.03 + 0.12 * vulnerable,
        0.02 + 0.10 * damaged,
        0.04 + 0.12 * damaged,
    )
    return Mechanism(base / YEAR_DAYS, multiplier, dict(zip(_SYMPTOMS, probabilities, strict=True)))


def _constant_hazard(visits: float, informative_censoring: float) -> Mechanism:
    """Return a mechanism without signal: each event has the same rate for everyone and at all times.

    Frailty, vulnerability and damage change, but have no effect, unless leaving is informative.
    """
    rate = np.zeros(TRANSITIONS)
    rate[: len(DISEASES)] = [0.06, 0.04, 0.03, 0.05, 0.03, 0.02, 0.05, 0.02, 0.03]
    rate[Transition.DEATH] = 0.03
    rate[Transition.ACUTE] = 0.10
    rate[Transition.FRAILTY] = 0.05
    rate[Transition.RECOVERY] = 3.0
    rate[Transition.DAMAGE] = 0.05
    rate[Transition.LEAVING] = 0.05
    rate[Transition.VISIT] = max(visits - 2, 0) / 4.4
    multiplier = POSSIBLE.astype(np.float64)
    by_frailty = np.array([0.4, 1.6, 5])[FRAILTY]
    multiplier[Transition.LEAVING] = 1 - informative_censoring + informative_censoring * by_frailty
    shape = (TRANSITIONS, 2, AGES, LAST_YEAR - FIRST_YEAR + 1)
    base = np.broadcast_to(rate[:, None, None, None] / YEAR_DAYS, shape).copy()
    return Mechanism(base, multiplier, dict.fromkeys(_SYMPTOMS, np.full(HIDDEN_STATES, 0.05)))


_MECHANISMS: MappingProxyType[Preset, Callable[[float, float], Mechanism]] = MappingProxyType(
    {Preset.DEFAULT: _default, Preset.CONSTANT_HAZARD: _constant_hazard}
)
