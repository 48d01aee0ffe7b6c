"""The outcome: its risk from the recorded history, the index dates and the new cases.

Dimensions: N examples, Z patients, K visits, C recorded diagnoses, F families of codes.
"""

from dataclasses import dataclass, replace

import numpy as np

from ehr_bert.schemas import PROLONGED_STAY_DAYS
from ehr_bert.simulation.conditions import Conditions
from ehr_bert.simulation.version1.histories import SimulatedHistories

MIN_VISITS = 3
"""Minimum number of visits up to and including the index date."""

RECORDED_AGAIN_SHARE = 0.6
"""Probability that a visit after the first one with the outcome records it as well."""


@dataclass(frozen=True)
class SimulatedCohort:
    """Patients with an index date, in order.

    Attributes:
        patient: Patient, from 0: int64 `[N]`.
        index_date: Days since 1970-01-01: int64 `[N]`.
        risk: Probability of the outcome within the horizon: float64 `[N]`.
        label: Whether the patient is a case: bool `[N]`.
    """

    patient: np.ndarray
    index_date: np.ndarray
    risk: np.ndarray
    label: np.ndarray


def add_outcome(
    conditions: Conditions, histories: SimulatedHistories, rng: np.random.Generator
) -> tuple[SimulatedHistories, SimulatedCohort]:
    """Draw index dates and new cases, and record the outcome of the cases.

    The first visit of a case with the outcome ends within the horizon after the index date.
    """
    horizon = conditions.outcome.horizon_days
    patient, discharged = histories.patient, histories.discharged
    patients, number = len(histories.prevalent), np.arange(len(patient))

    earlier = number - np.searchsorted(patient, patient)
    follow_up = discharged[np.searchsorted(patient, patient, "right") - 1] - discharged
    to_next = np.roll(discharged, -1) - discharged  # of the same patient if there is follow-up
    eligible = (
        (earlier >= MIN_VISITS - 1)
        & (follow_up >= horizon)
        & (to_next <= horizon)
        & ~histories.prevalent[patient]
    )
    index_visit = _one_per_patient(np.flatnonzero(eligible), patient, rng)
    members = patient[index_visit]
    index_date = np.zeros(patients, np.int64)  # [Z], before all visits of patients without an index date
    index_date[members] = discharged[index_visit]
    risk = risks(conditions, histories, index_date)[members]
    label = rng.random(len(members)) < risk
    cohort = SimulatedCohort(members, index_date[members], risk, label)

    since_index = discharged - index_date[patient]
    is_case = np.isin(patient, members[label])
    within = is_case & (since_index > 0) & (since_index <= horizon)
    onset = _one_per_patient(np.flatnonzero(within), patient, rng)
    onset_visit = np.full(patients, len(patient))  # [Z], after the last visit unless a case
    onset_visit[patient[onset]] = onset
    later = (number > onset_visit[patient]) & (rng.random(len(patient)) < RECORDED_AGAIN_SHARE)
    coded = np.concatenate([onset, np.flatnonzero(later)])
    visit = np.concatenate([histories.visit, coded])
    order = np.argsort(visit, kind="stable")
    outcome = conditions.numbers[conditions.outcome.condition]
    family = np.concatenate([histories.family, np.full(len(coded), outcome)])
    return replace(histories, visit=visit[order], family=family[order]), cohort


def risks(conditions: Conditions, histories: SimulatedHistories, index_date: np.ndarray) -> np.ndarray:
    """Return each patient's probability of the outcome, from what was recorded up to a date.

    Args:
        conditions: The conditions, whose `outcome` has the weights.
        histories: Histories of Z patients.
        index_date: Days since 1970-01-01, by patient: int64 `[Z]`.

    Returns:
        Probabilities: float64 `[Z]`.
    """
    outcome, number = conditions.outcome, conditions.numbers
    past = histories.discharged <= index_date[histories.patient]  # [K]
    known = past[histories.visit]  # [C]
    patient = histories.patient[histories.visit[known]]
    date = histories.discharged[histories.visit[known]].astype(float)
    cell = patient, histories.family[known]
    shape = len(index_date), len(number)
    first, last = np.full(shape, np.inf), np.full(shape, -np.inf)
    np.minimum.at(first, cell, date)
    np.maximum.at(last, cell, date)
    recorded = np.isfinite(last)  # [Z, F]
    recency = np.exp((last - index_date[:, None]) / outcome.recency_days)  # 0 if never

    long_stay = past & (histories.stay > PROLONGED_STAY_DAYS)
    stays = np.bincount(histories.patient[long_stay], minlength=len(index_date))
    log_odds = outcome.log_odds + outcome.prolonged_stay * np.minimum(stays, outcome.most_stays)
    for name, weight in outcome.recorded.items():
        log_odds += weight * recorded[:, number[name]]
    for name, weight in outcome.recent.items():
        log_odds += weight * recency[:, number[name]]
    for term in outcome.together:
        log_odds += term["weight"] * recorded[:, [number[name] for name in term["of"]]].all(1)
    for term in outcome.in_order:
        one, other = number[term["first"]], number[term["then"]]
        log_odds += term["weight"] * (recorded[:, other] & (first[:, one] < first[:, other]))
    return 1 / (1 + np.exp(-log_odds))


def _one_per_patient(visits: np.ndarray, patient: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw one of `visits`, which are in order, for each patient that has any, in order of patient."""
    _, first, count = np.unique(patient[visits], return_index=True, return_counts=True)
    return visits[first + (rng.random(len(first)) * count).astype(int)]
