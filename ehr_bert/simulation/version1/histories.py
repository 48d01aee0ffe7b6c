"""Synthetic patients, their conditions, visits and recorded diagnoses, for many patients at once.

Dimensions: Z patients, K visits, C recorded diagnoses, F chronic conditions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ehr_bert.simulation.choices import Choices
from ehr_bert.simulation.conditions import Chronic, Conditions

FIRST_ENTRY = np.datetime64("2009-01-01").astype(int)
"""First day of observation of the earliest patient, in days since 1970-01-01."""

ENTRY_YEARS = 7.0
"""Length of the period in which the observation of patients starts, in years."""

OBSERVED_YEARS = (1.5, 7.0)
"""Minimum and maximum length of observation of a patient, in years."""

YEAR = 365.25
"""Length of a year in days."""


@dataclass(frozen=True)
class SimulatedHistories:
    """Visits in order of patient and time, and their recorded diagnoses.

    Attributes:
        patient: Patient of each visit, from 0: int64 `[K]`.
        admitted: Admission in days since 1970-01-01: int64 `[K]`.
        discharged: Discharge in days since 1970-01-01, before the patient's next admission: int64 `[K]`.
        inpatient: Whether the visit is an inpatient stay: bool `[K]`.
        visit: Visit of each diagnosis, from 0: int64 `[C]`.
        family: Family of each diagnosis: int64 `[C]`.
        prevalent: Whether a patient had the outcome at the start of observation: bool `[Z]`.
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
        """Days from admission to discharge, 0 for outpatient visits: int64 `[K]`."""
        return self.discharged - self.admitted


def simulate_histories(
    conditions: Conditions, patients: int, visits: float, rng: np.random.Generator
) -> SimulatedHistories:
    """Simulate histories without new cases of the outcome, which `add_outcome` adds.

    Args:
        conditions: The conditions.
        patients: Number of patients.
        visits: Mean number of visits per patient.
        rng: Random generator.
    """
    age = np.clip(rng.normal(55, 16, patients), 20, 90) - 18  # [Z], adult years at the start of observation
    entry = FIRST_ENTRY + (ENTRY_YEARS * YEAR * rng.random(patients)).astype(int)  # [Z], days
    observed = rng.uniform(*OBSERVED_YEARS, patients)  # [Z], years
    onsets = _onsets(conditions.chronic, patients, rng)  # [Z, F], adult years
    outcome = conditions.numbers[conditions.outcome.condition]
    prevalent = onsets[:, outcome] <= age
    onsets[~prevalent, outcome] = np.inf

    burden = (onsets <= (age + observed / 2)[:, None]).sum(1)
    rate = (1 + 0.1 * burden) * rng.lognormal(0, 0.4, patients)
    counts = 1 + rng.poisson(rate / rate.mean() * (visits - 1))
    patient = np.repeat(np.arange(patients), counts)  # [K]
    years = observed[patient] * rng.random(len(patient))  # [K], since the start of observation
    years = years[np.lexsort((years, patient))]

    active = onsets[patient] <= (age[patient] + years)[:, None]  # [K, F]
    chance = 1 / (1 + np.exp(3.2 - 0.12 * active.sum(1)))
    inpatient = rng.random(len(patient)) < chance
    visit, family = _record(conditions, active, inpatient, rng)

    weight = np.array([family.stay for family in conditions.families])
    severity = np.bincount(visit, weight[family], minlength=len(patient))
    log_days = 0.75 + np.minimum(severity, 2.5) + 0.55 * rng.standard_normal(len(patient))
    stay = np.where(inpatient, 1 + np.exp(log_days).astype(int), 0)
    # A stay delays all later visits, and no two visits share a day.
    ahead = np.cumsum(stay + 1) - (stay + 1)
    ahead -= ahead[np.searchsorted(patient, patient)]
    admitted = entry[patient] + (years * YEAR).astype(int) + ahead
    return SimulatedHistories(patient, admitted, admitted + stay, inpatient, visit, family, prevalent)


def _onsets(chronic: Sequence[Chronic], patients: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the adult age in years at which each condition starts, infinite if never: float64 `[Z, F]`."""
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


def _record(
    conditions: Conditions, active: np.ndarray, inpatient: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the recorded diagnoses: visit and family of each, in order of visit, int64 `[C]`."""
    visits, chronic = active.shape
    coded = np.array([condition.coded for condition in conditions.chronic])
    coded = np.where(
        inpatient[:, None], 1 - (1 - coded) ** 2.2, coded
    )  # [K, F]; stays are recorded more completely
    coded *= 1.5 / (1 + 0.1 * active.sum(1, keepdims=True))  # of many conditions, a smaller share is recorded
    visit, family = np.nonzero(active & (rng.random(active.shape) < coded))
    recorded = np.bincount(visit, minlength=visits)
    problems = np.maximum(rng.poisson(np.where(inpatient, 2.0, 0.9)), recorded == 0)

    of_visit = np.repeat(np.arange(visits), problems)
    first = np.cumsum(recorded) - recorded
    picked = first[of_visit] + (rng.random(len(of_visit)) * recorded[of_visit]).astype(int)
    caused = (recorded[of_visit] > 0) & (rng.random(len(of_visit)) < 0.6)
    cause = np.full(len(of_visit), chronic)
    cause[caused] = family[picked[caused]]
    problem = _problem_choices(conditions).draw(
        2 * cause + inpatient[of_visit], rng.random(len(of_visit))
    ) % len(conditions.acute)
    visit = np.concatenate([visit, of_visit])
    family = np.concatenate([family, chronic + problem])
    order = np.argsort(visit, kind="stable")
    return visit[order], family[order]


def _problem_choices(conditions: Conditions) -> Choices:
    """Return the choices of an acute problem. Group `2 * cause + inpatient`; the last cause is none."""
    by_setting = np.array([[problem.outpatient, problem.inpatient] for problem in conditions.acute]).T

    def weights(brings: Sequence[str] | None) -> list[np.ndarray]:
        fits = np.array([brings is None or problem.name in brings for problem in conditions.acute])
        return [setting * fits for setting in by_setting]

    causes = [condition.brings for condition in conditions.chronic]
    return Choices([group for brings in [*causes, None] for group in weights(brings)])
