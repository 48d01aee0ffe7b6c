"""Patients, their conditions, their visits and what is named at them, many patients at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ehr_bert.simulation.choices import Choices
from ehr_bert.simulation.conditions import Chronic, Conditions

FIRST_ENTRY = np.datetime64("2009-01-01").astype(int)
"""No patient is observed before: days since 1970-01-01."""

YEARS_OF_ENTRY = 7.0
"""Patients are first observed within this time."""

YEARS_OBSERVED = (1.5, 7.0)
"""A patient is observed for between so many years."""

YEAR = 365.25
"""In days."""


@dataclass(frozen=True)
class SimulatedHistories:
    """Visits of `P` patients in order of patient and time, and what they name.

    Attributes:
        patient: Each visit's patient, counted from 0: int64 `[V]`.
        admitted: Days since 1970-01-01: int64 `[V]`.
        discharged: Likewise, before the patient's next admission.
        inpatient: Whether the visit is a stay: bool `[V]`.
        visit: Where each diagnosis was named, counted from 0: int64 `[M]`.
        family: What was named, a family's number: int64 `[M]`.
        prevalent: Whether a patient had the outcome when first observed: bool `[P]`.
    """

    patient: np.ndarray
    admitted: np.ndarray
    discharged: np.ndarray
    inpatient: np.ndarray
    visit: np.ndarray
    family: np.ndarray
    prevalent: np.ndarray

    @property
    def stay(self) -> np.ndarray:
        """Days from admission to discharge, 0 for outpatient visits: int64 `[V]`."""
        return self.discharged - self.admitted


def simulate_histories(
    conditions: Conditions, patients: int, visits: float, rng: np.random.Generator
) -> SimulatedHistories:
    """Histories up to, but without, new cases of the outcome.

    Args:
        conditions: What patients suffer from.
        patients: How many, `P`.
        visits: How many a patient has, on average.
        rng: Source of all that is drawn.
    """
    age = np.clip(rng.normal(55, 16, patients), 20, 90) - 18  # [P], adult years at entry
    entry = FIRST_ENTRY + (YEARS_OF_ENTRY * YEAR * rng.random(patients)).astype(int)  # [P], days
    observed = rng.uniform(*YEARS_OBSERVED, patients)  # [P], years
    onsets = _onsets(conditions.chronic, patients, rng)  # [P, K], adult years
    outcome = conditions.numbers[conditions.outcome.condition]
    prevalent = onsets[:, outcome] <= age
    onsets[~prevalent, outcome] = np.inf

    burden = (onsets <= (age + observed / 2)[:, None]).sum(1)
    rate = (1 + 0.1 * burden) * rng.lognormal(0, 0.4, patients)
    counts = 1 + rng.poisson(rate / rate.mean() * (visits - 1))
    patient = np.repeat(np.arange(patients), counts)  # [V]
    years = observed[patient] * rng.random(len(patient))  # [V], since entry
    years = years[np.lexsort((years, patient))]

    active = onsets[patient] <= (age[patient] + years)[:, None]  # [V, K]
    chance = 1 / (1 + np.exp(3.2 - 0.12 * active.sum(1)))
    inpatient = rng.random(len(patient)) < chance
    visit, family = _named(conditions, active, inpatient, rng)

    weight = np.array([each.stay for each in conditions.families])
    severity = np.bincount(visit, weight[family], minlength=len(patient))
    log_days = 0.75 + np.minimum(severity, 2.5) + 0.55 * rng.standard_normal(len(patient))
    stay = np.where(inpatient, 1 + np.exp(log_days).astype(int), 0)
    # A stay delays all later visits, and no two visits share a day.
    ahead = np.cumsum(stay + 1) - (stay + 1)
    ahead -= ahead[np.searchsorted(patient, patient)]
    admitted = entry[patient] + (years * YEAR).astype(int) + ahead
    return SimulatedHistories(patient, admitted, admitted + stay, inpatient, visit, family, prevalent)


def _onsets(chronic: Sequence[Chronic], patients: int, rng: np.random.Generator) -> np.ndarray:
    """Adult age in years at which each condition arises, infinite for never: float64 `[P, K]`."""
    male = rng.random(patients) < 0.48
    frailty = rng.gamma(6, 1 / 6, patients)
    number = {condition.name: index for index, condition in enumerate(chronic)}
    onsets = np.full((patients, len(chronic)), np.inf)
    for index, condition in enumerate(chronic):
        waits = rng.standard_exponential((patients, 1 + len(condition.after))) * 1000 / frailty[:, None]
        if condition.arises:
            onsets[:, index] = waits[:, 0] / condition.arises
        for wait, (cause, rate) in zip(waits.T[1:], condition.after.items(), strict=True):
            onsets[:, index] = np.minimum(onsets[:, index], onsets[:, number[cause]] + wait / rate)
        if condition.sex is not None:
            onsets[male != (condition.sex == "male"), index] = np.inf
    return onsets


def _named(
    conditions: Conditions, active: np.ndarray, inpatient: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The visit and the family of each diagnosis named, in order of visit: int64 `[M]` each."""
    visits, chronic = active.shape
    coded = np.array([condition.coded for condition in conditions.chronic])
    coded = np.where(inpatient[:, None], 1 - (1 - coded) ** 2.2, coded)  # [V, K]: stays are coded closely
    coded *= 1.5 / (1 + 0.1 * active.sum(1, keepdims=True))  # the more there is, the less of it is named
    visit, family = np.nonzero(active & (rng.random(active.shape) < coded))
    named = np.bincount(visit, minlength=visits)
    problems = np.maximum(rng.poisson(np.where(inpatient, 2.0, 0.9)), named == 0)

    of_visit = np.repeat(np.arange(visits), problems)
    first = np.cumsum(named) - named
    picked = first[of_visit] + (rng.random(len(of_visit)) * named[of_visit]).astype(int)
    brought = (named[of_visit] > 0) & (rng.random(len(of_visit)) < 0.6)
    cause = np.full(len(of_visit), chronic)
    cause[brought] = family[picked[brought]]
    problem = _problem_choices(conditions).draw(
        2 * cause + inpatient[of_visit], rng.random(len(of_visit))
    ) % len(conditions.acute)
    visit = np.concatenate([visit, of_visit])
    family = np.concatenate([family, chronic + problem])
    order = np.argsort(visit, kind="stable")
    return visit[order], family[order]


def _problem_choices(conditions: Conditions) -> Choices:
    """Which acute problem comes: group `2 * cause + inpatient`, the last cause being none."""
    by_setting = np.array([[each.outpatient, each.inpatient] for each in conditions.acute]).T

    def weights(brings: Sequence[str] | None) -> list[np.ndarray]:
        fits = np.array([brings is None or problem.name in brings for problem in conditions.acute])
        return [setting * fits for setting in by_setting]

    causes = [condition.brings for condition in conditions.chronic]
    return Choices([group for brings in [*causes, None] for group in weights(brings)])
