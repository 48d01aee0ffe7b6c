"""Simulation of the events of many patients in continuous time.

Dimensions: Z patients, G events.
"""

from dataclasses import dataclass, fields, replace

import numpy as np

from ehr_bert.simulation.initial import ADULT_AGE, OLDEST, InitialStates
from ehr_bert.simulation.mechanism import Mechanism
from ehr_bert.simulation.states import (
    CORE_DISEASES,
    DISEASES,
    HEART_FAILURE,
    KIDNEY_DISEASE,
    LEAF_DISEASES,
    STROKE,
    TARGETS,
    Transition,
)

DAY = 86_400
"""Seconds per day. Times are in seconds since 1970-01-01, local and without a time zone."""

ENTRY = np.datetime64("2009-01-01").astype(int), np.datetime64("2016-01-01").astype(int)
"""First day of enrolment of the earliest patient, and the day after that of the last one."""

EXTRACTION = np.datetime64("2020-12-31").astype(int)
"""Last day of observation of patients who do not leave."""

INPATIENT_SHARE = {
    "hypertension": 0.02,
    "diabetes": 0.08,
    "atrial_fibrillation": 0.35,
    "heart_failure": 0.6,
    "chronic_kidney_disease": 0.15,
    "cerebrovascular_disease": 0.85,
    "depression": 0.05,
    "peripheral_artery_disease": 0.15,
    "rheumatoid_arthritis": 0.05,
}
"""Share of the onsets of a disease outside hospital that admit the patient."""

ROUTINE_INPATIENT_SHARE = 0.06
"""Share of the visits without an onset or infection that are stays."""

HIDDEN_KINDS = (Transition.FRAILTY, Transition.RECOVERY, Transition.DAMAGE)
"""Events that change the hidden part of a state. No record shows them."""

_FOREVER = 2e9
"""Seconds after which no event is simulated, more than a year."""

INTAKE = -1
"""Kind of the first visit, on the first day of enrolment, which records all diseases."""


@dataclass(frozen=True)
class Entries:
    """Patients at the start of enrolment, and what does not depend on their events.

    Attributes:
        sex: 0 female, 1 male: int64 `[Z]`.
        birth_year: int64 `[Z]`.
        entry: First day of enrolment, in days since 1970-01-01: int64 `[Z]`.
        leaves: Leaf flags at entry: int64 `[Z]`.
        state: State at entry: int64 `[Z]`.
    """

    sex: np.ndarray
    birth_year: np.ndarray
    entry: np.ndarray
    leaves: np.ndarray
    state: np.ndarray


@dataclass(frozen=True)
class Trajectories:
    """Events of patients, in order of patient and time. The first event of each patient is the intake.

    Attributes:
        patient: Patient, from 0: int64 `[G]`.
        time: Seconds since 1970-01-01: int64 `[G]`.
        kind: `Transition`, the position of a disease in `DISEASES`, or `INTAKE`: int64 `[G]`.
        state: State after the event: int64 `[G]`.
        leaves: Leaf flags after the event: int64 `[G]`.
        discharge: Discharge of the visit that the event belongs to; 0 without a visit: int64 `[G]`.
        opens_visit: Whether the event is the reason for a new visit: bool `[G]`.
        inpatient: Whether the visit of the event is a stay: bool `[G]`.
        death: Time of death; 0 if the patient did not die while observed: int64 `[Z]`.
        last_day: Last day of observation; the extraction for patients who died: int64 `[Z]`.
    """

    patient: np.ndarray
    time: np.ndarray
    kind: np.ndarray
    state: np.ndarray
    leaves: np.ndarray
    discharge: np.ndarray
    opens_visit: np.ndarray
    inpatient: np.ndarray
    death: np.ndarray
    last_day: np.ndarray

    def only(self, keep: np.ndarray) -> "Trajectories":
        """Return the events for which `keep`, bool `[G]`, is true."""
        events = (field.name for field in fields(self) if field.name not in ("death", "last_day"))
        return replace(self, **{name: getattr(self, name)[keep] for name in events})

    @property
    def recorded(self) -> "Trajectories":
        """The events without hidden ones: what a record and the register of deaths show."""
        return self.only(~np.isin(self.kind, HIDDEN_KINDS))


def draw_entries(initial: InitialStates, patients: int, rng: np.random.Generator) -> Entries:
    """Draw patients at the start of enrolment."""
    sex = (rng.random(patients) < 0.48).astype(int)
    entry = ENTRY[0] + (rng.random(patients) * (ENTRY[1] - ENTRY[0])).astype(int)
    age = np.clip(rng.normal(55, 16, patients), ADULT_AGE, OLDEST).astype(int)
    leaves, state = initial.draw(sex, age, rng.random(patients))
    return Entries(sex, year_of(entry * DAY) - age, entry, leaves, state)


def year_of(seconds: np.ndarray) -> np.ndarray:
    """Return the calendar year of times in seconds since 1970-01-01."""
    return seconds.astype("datetime64[s]").astype("datetime64[Y]").astype(int) + 1970


def start_of_year(year: np.ndarray | int) -> np.ndarray:
    """Return the time at which a calendar year starts, in seconds since 1970-01-01."""
    return (np.asarray(year) - 1970).astype("datetime64[Y]").astype("datetime64[s]").astype(int)


def simulate_trajectories(mechanism: Mechanism, entries: Entries, rng: np.random.Generator) -> Trajectories:
    """Simulate the events of patients from entry until they die, leave, or their records are extracted."""
    count = len(entries.sex)
    intake = entries.entry * DAY + 8 * 3600 + (rng.random(count) * 9 * 3600).astype(int)
    end = np.full(count, (EXTRACTION + 1) * DAY)
    return _simulate(mechanism, entries, intake, end, rng)


def continue_trajectories(
    mechanism: Mechanism, entries: Entries, days: int, rng: np.random.Generator
) -> Trajectories:
    """Simulate events from the start of the day `entries.entry`, for a number of days, without an intake."""
    start = entries.entry * DAY
    continued = _simulate(mechanism, entries, start, start + days * DAY, rng)
    return continued.only(continued.kind != INTAKE)


def _simulate(
    mechanism: Mechanism, entries: Entries, start: np.ndarray, end: np.ndarray, rng: np.random.Generator
) -> Trajectories:
    patients = len(start)
    death, last_day, end = np.zeros(patients, np.int64), end // DAY - 1, end.copy()
    stay_end = np.zeros(patients, np.int64)  # discharge of the current stay, in the past if there is none
    time, state, leaves = start.copy(), entries.state.copy(), entries.leaves.copy()
    outside, inside = np.ones(patients, bool), np.zeros(patients, bool)
    intake = np.full(patients, INTAKE)
    parts = [(np.arange(patients), start, intake, entries.state, entries.leaves, start, outside, inside)]
    multiplier = np.ascontiguousarray(mechanism.multiplier.T)
    targets = np.ascontiguousarray(TARGETS.T)
    onset_share = np.array([INPATIENT_SHARE[name] for name in DISEASES])
    active = np.arange(patients)
    while len(active):
        now, here, has = time[active], state[active], leaves[active]
        year = year_of(now)
        in_stay = stay_end[active] > now
        rates = mechanism.base_rates(entries.sex[active], year - entries.birth_year[active], year).T
        rates = rates * multiplier[here]
        for number in range(len(LEAF_DISEASES)):
            rates[:, len(CORE_DISEASES) + number] *= has >> number & 1 == 0
        rates[:, Transition.VISIT] *= ~in_stay
        cumulative = np.cumsum(rates, axis=1)
        total = cumulative[:, -1]
        wait = rng.standard_exponential(len(active)) / total * DAY
        kind = (rng.random(len(active))[:, None] * total[:, None] >= cumulative).sum(1)
        boundary = np.minimum(start_of_year(year + 1), end[active])
        boundary = np.where(in_stay, np.minimum(boundary, stay_end[active]), boundary)
        reached = np.minimum(wait, _FOREVER).astype(np.int64) + now + 1
        reached += reached % DAY == 0  # midnight would mean that the time of day is unknown
        happens = reached < boundary
        time[active] = np.where(happens, reached, boundary)
        ended = active[~happens & (boundary == end[active])]

        who, kind, when = active[happens], kind[happens], reached[happens]
        here, has, in_stay = here[happens], has[happens], in_stay[happens]
        state[who] = targets[here, kind]
        is_onset, is_acute = kind < len(DISEASES), kind == Transition.ACUTE
        is_leaf = is_onset & (kind >= len(CORE_DISEASES))
        leaves[who] = has | np.where(is_leaf, 1 << np.where(is_leaf, kind - len(CORE_DISEASES), 0), 0)
        opens = ((is_onset | is_acute) & ~in_stay) | (kind == Transition.VISIT)
        share = np.where(is_onset, onset_share[np.where(is_onset, kind, 0)], ROUTINE_INPATIENT_SHARE)
        admitted = opens & (is_acute | (rng.random(len(who)) < share))
        days = _stay_days(state[who], is_acute, rng)
        leaving_time = 9 * 3600 + (rng.random(len(who)) * 8 * 3600).astype(int)
        discharge = np.where(admitted, (when // DAY + days) * DAY + leaving_time, when)
        stay_end[who] = np.where(admitted, discharge, stay_end[who])
        discharge = np.where(opens, discharge, np.where(in_stay, stay_end[who], 0))
        inpatient = np.where(opens, admitted, in_stay)
        parts.append((who, when, kind, state[who], leaves[who], discharge, opens, inpatient))
        dies, goes = kind == Transition.DEATH, kind == Transition.LEAVING
        death[who[dies]] = when[dies]
        last_day[who[goes]] = when[goes] // DAY
        end[who[goes]] = (when[goes] // DAY + 1) * DAY  # enrolment ends with the day
        is_gone = np.zeros(patients, bool)
        is_gone[ended] = is_gone[who[dies]] = True
        active = active[~is_gone[active]]
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.argsort(columns[0], kind="stable")
    patient, when, kind, after, flags, discharge, opens, inpatient = (column[order] for column in columns)
    # A stay ends with death and with observation.
    last = np.where(death > 0, death, (last_day + 1) * DAY - 1)
    discharge = np.where(discharge > 0, np.minimum(discharge, last[patient]), 0)
    return Trajectories(patient, when, kind, after, flags, discharge, opens, inpatient, death, last_day)


def _stay_days(state: np.ndarray, is_acute: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw the length of stays in days, 1 or more. It depends on what is recorded only."""
    severity = 0.35 * HEART_FAILURE + 0.45 * STROKE + 0.25 * KIDNEY_DISEASE
    log_days = 0.9 + severity[state] + 0.4 * is_acute + 0.7 * rng.standard_normal(len(state))
    return 1 + np.exp(log_days).astype(int)
