"""What the visits of simulated patients record: codes, their order, and the days of the visits.

The record reveals hidden facts only through the times of events and through symptoms. Everything else depends
on the recorded diseases, on conditions that have no effect on any hazard, and on chance.

Dimensions: Z patients, G events, K visits, C recorded diagnoses, N rows.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ehr_bert.schemas import EVENTS, PATIENTS, EventKind, ObservationEndReason
from ehr_bert.simulation.choices import Choices
from ehr_bert.simulation.coding import HABITUAL_SHARE, ICD10_START, REPEATED_SHARE, SITES, Coding
from ehr_bert.simulation.conditions import Chronic, Conditions
from ehr_bert.simulation.mechanism import Mechanism
from ehr_bert.simulation.records import SimulatedRecords
from ehr_bert.simulation.states import (
    CORE_DISEASES,
    DISEASES,
    HIDDEN,
    LEAF_DISEASES,
    RECORDED,
    Transition,
)
from ehr_bert.simulation.trajectories import DAY, EXTRACTION, INTAKE, Entries, Trajectories, year_of

INFECTIONS = ("pneumonia", "sepsis", "urinary_infection", "influenza")
"""Families of an acute infection. No other visit records them."""

UNUSED = (
    "diabetic_neuropathy",
    "diabetic_eye_disease",
    "diabetic_kidney_disease",
    "hypertensive_kidney_disease",
    "arrhythmia",
    "anxiety",
    "psychosis",
)
"""Families that no visit records, because their codes have the categories of a disease's codes."""

REPEAT_SHARE = 0.45
"""Share of later visits at which a disease is recorded again."""

PROBLEMS = 0.7, 1.6
"""Mean number of problems without cause that a visit records, outside and in hospital."""

_VISITS_PER_CHUNK = 1 << 32
"""Visit ids of a chunk of patients start at a multiple of this number."""


def draw_symptoms(mechanism: Mechanism, trajectories: Trajectories, rng: np.random.Generator) -> np.ndarray:
    """Draw whether each new visit records each symptom of the mechanism: bool `[G, symptoms]`."""
    probability = np.array(list(mechanism.symptoms.values()))[:, HIDDEN[trajectories.state]].T
    return (rng.random(probability.shape) < probability) & trajectories.opens_visit[:, None]


@dataclass(frozen=True)
class _Visits:
    """Visits in order of patient and time, and the visit of each event, -1 if it has none: int64 `[G]`."""

    event: np.ndarray
    of_event: np.ndarray


def record(
    conditions: Conditions,
    coding: Coding,
    mechanism: Mechanism,
    entries: Entries,
    trajectories: Trajectories,
    symptoms: np.ndarray,
    chunk: int,
    first_id: int,
    kept: int,
    rng: np.random.Generator,
) -> SimulatedRecords:
    """Return the records of the first patients of a chunk.

    Args:
        conditions: The conditions, for their families of codes.
        coding: The codes that sites use.
        mechanism: The mechanism, for its symptoms.
        entries: The patients of the chunk.
        trajectories: Their events.
        symptoms: Symptoms, as `draw_symptoms` returns them.
        chunk: Number of the chunk.
        first_id: Id of its first patient.
        kept: Number of patients to return. Their records do not depend on it.
        rng: Random generator.
    """
    opening = np.flatnonzero(trajectories.opens_visit)
    in_visit = trajectories.discharge > 0
    visits = _Visits(opening, np.where(in_visit, np.cumsum(trajectories.opens_visit) - 1, -1))
    visit, family, time, acquired = _families(
        conditions, mechanism, entries, trajectories, symptoms, visits, rng
    )
    code = _codes(conditions, coding, trajectories, entries, opening[visit], family, rng)
    acute = trajectories.inpatient[opening[visit]] & (family >= len(conditions.chronic))
    is_late = time > trajectories.time[opening[visit]]
    row, priority, present, third_party = _order(visit, acute, is_late, acquired, rng)
    event = opening[visit[row]]  # [N], the event that opened the visit
    keep = trajectories.patient[event] < kept
    row, event = row[keep], event[keep]
    discharge = trajectories.discharge[event]
    names = pa.array(np.arange(first_id, first_id + kept)).cast(pa.string())
    kept_visits = trajectories.patient[opening] < kept
    opening = opening[kept_visits]
    visit_ids = chunk * _VISITS_PER_CHUNK + np.arange(len(opening))
    count = len(row)
    columns = {
        "patient_id": names.take(pa.array(trajectories.patient[event])),
        "admit_date": _days(trajectories.time[event] // DAY),
        "discharge_date": _days(discharge // DAY),
        "date": _days(time[row] // DAY),
        "time": _times(time[row]),
        "kind": pa.DictionaryArray.from_arrays(
            pa.array(np.zeros(count, np.int8)), [EventKind.DIAGNOSIS.value]
        ).cast(pa.string()),
        "code": pa.array(conditions.codes).take(pa.array(code[row])),
        "value": pa.nulls(count, pa.float64()),
        "unit": pa.nulls(count, pa.string()),
        "value_text": pa.nulls(count, pa.string()),
        "present_on_admission": pa.array(present[keep].astype(np.int32)),
        "priority": pa.array(priority[keep].astype(np.int32)),
        "third_party": pa.array(third_party[keep].astype(np.int32)),
    }
    events = pa.table([columns[name] for name in EVENTS.names], schema=EVENTS)
    return SimulatedRecords(
        patients=_patients(entries, trajectories, names, kept),
        visits=pa.table(
            {
                "visit_id": pa.array(visit_ids),
                "patient_id": names.take(pa.array(trajectories.patient[opening])),
                "admitted": _times(trajectories.time[opening]),
                "discharged": _times(trajectories.discharge[opening]),
                "inpatient": pa.array(trajectories.inpatient[opening]),
            }
        ),
        events=events.append_column("visit_id", pa.array(visit_ids[visit[row]])),
    )


def _families(
    conditions: Conditions,
    mechanism: Mechanism,
    entries: Entries,
    trajectories: Trajectories,
    symptoms: np.ndarray,
    visits: _Visits,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the recorded families: visit, family, time, and whether acquired in hospital, `[C]` each."""
    number = conditions.numbers
    opening, of_event = visits.event, visits.of_event
    disease = np.array([number[name] for name in DISEASES])
    kind, inpatient = trajectories.kind[opening], trajectories.inpatient[opening]
    patient = trajectories.patient[opening]

    # Onsets and infections, at their own time.
    is_disease = (trajectories.kind >= 0) & (trajectories.kind < len(DISEASES))
    onset = np.flatnonzero(is_disease)
    infection = np.flatnonzero(trajectories.kind == Transition.ACUTE)
    infections = np.array([number[name] for name in INFECTIONS])
    weights = np.array([conditions.acute[place - len(conditions.chronic)].inpatient for place in infections])
    chosen = infections[Choices([weights]).draw(np.zeros(len(infection), int), rng.random(len(infection)))]
    reasons = np.concatenate([onset, infection])
    reason_family = np.concatenate([disease[trajectories.kind[onset]], chosen])
    acquired = ~trajectories.opens_visit[reasons]

    # Diseases that were on record before, all of them at the intake.
    state, leaves = trajectories.state[opening], trajectories.leaves[opening]
    flags = RECORDED[state] >> 1
    has = np.stack(
        [flags >> place & 1 for place in range(len(CORE_DISEASES))]
        + [leaves >> place & 1 for place in range(len(LEAF_DISEASES))],
        axis=1,
    ).astype(bool)  # [K, diseases]
    is_intake = kind == INTAKE
    repeated = has & (is_intake[:, None] | (rng.random(has.shape) < REPEAT_SHARE))
    newly = kind[:, None] == np.arange(len(DISEASES))
    again_visit, again = np.nonzero(repeated & ~newly)

    symptom_family = np.array([number[name] for name in mechanism.symptoms])
    symptom_visit, symptom = np.nonzero(symptoms[opening])
    other_visit, other = _other_conditions(conditions, entries, patient, inpatient, rng)

    visit = np.concatenate([of_event[reasons], again_visit, symptom_visit, other_visit])
    family = np.concatenate([reason_family, disease[again], symptom_family[symptom], other])
    problem_visit, problem = _problems(conditions, mechanism, visit, inpatient, rng)
    visit = np.concatenate([visit, problem_visit])
    family = np.concatenate([family, problem])
    time = trajectories.time[opening[visit]]
    time[: len(reasons)] = trajectories.time[reasons]
    is_acquired = np.zeros(len(visit), bool)
    is_acquired[: len(reasons)] = acquired
    return visit, family, time, is_acquired


def _other_conditions(
    conditions: Conditions,
    entries: Entries,
    patient: np.ndarray,
    inpatient: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw chronic conditions that no hazard depends on: visit and family of each record.

    Patients differ in how many they have. Rates are those of `conditions.toml`.
    """
    left_out = (*DISEASES, *UNUSED)
    place = np.flatnonzero([condition.name not in left_out for condition in conditions.chronic])
    chosen: list[Chronic] = [conditions.chronic[number] for number in place]
    rate = np.array([other.arises + 0.3 * sum(other.after.values()) for other in chosen]) / 1000
    age = year_of(entries.entry * DAY) - entries.birth_year
    proneness = rng.gamma(2, 1 / 2, len(age))
    chance = 1 - np.exp(-rate * ((age - 18) * proneness)[:, None])
    for number, other in enumerate(chosen):
        if other.sex is not None:
            chance[entries.sex != (other.sex == "male"), number] = 0
    has = rng.random(chance.shape) < chance  # [Z, conditions]
    owner, column = np.nonzero(has)
    # One row per visit and condition that the patient has, so that no draw is wasted on absent ones.
    starts = np.searchsorted(owner, np.arange(len(age) + 1))
    per_visit = (starts[1:] - starts[:-1])[patient]
    visit = np.repeat(np.arange(len(patient)), per_visit)
    offset = np.arange(len(visit)) - np.repeat(np.cumsum(per_visit) - per_visit, per_visit)
    condition = column[starts[patient[visit]] + offset]
    coded = np.array([other.coded for other in chosen])[condition]
    drawn = rng.random(len(visit)) < np.where(inpatient[visit], 0.9, 0.4) * coded
    return visit[drawn], place[condition[drawn]]


def _problems(
    conditions: Conditions,
    mechanism: Mechanism,
    visit: np.ndarray,
    inpatient: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw problems without cause, at least one at a visit that records nothing else."""
    named = {*mechanism.symptoms, *INFECTIONS}
    is_free = np.array([problem.name not in named for problem in conditions.acute])
    weights = [
        is_free * np.array([getattr(problem, setting) for problem in conditions.acute])
        for setting in ("outpatient", "inpatient")
    ]
    recorded = np.bincount(visit, minlength=len(inpatient))
    counts = np.maximum(rng.poisson(np.where(inpatient, PROBLEMS[1], PROBLEMS[0])), recorded == 0)
    of_visit = np.repeat(np.arange(len(inpatient)), counts)
    drawn = Choices(weights).draw(inpatient[of_visit].astype(int), rng.random(len(of_visit)))
    return of_visit, len(conditions.chronic) + drawn % len(conditions.acute)


def _codes(
    conditions: Conditions,
    coding: Coding,
    trajectories: Trajectories,
    entries: Entries,
    event: np.ndarray,
    family: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw the code of each diagnosis, as an index into `Conditions.codes`: int64 `[C]`."""
    patients = len(entries.sex)
    site = rng.integers(SITES, size=patients)
    habit = rng.random((patients, len(conditions.families)))  # quantiles of a family's codes
    patient = trajectories.patient[event]
    system = trajectories.discharge[event] // DAY >= ICD10_START
    is_habitual = rng.random(len(event)) < HABITUAL_SHARE
    quantile = np.where(is_habitual, habit[patient, family], rng.random(len(event)))
    group = (2 * site[patient] + system) * len(conditions.families) + family
    return coding.codes[coding.choices.draw(group, quantile)]


def _order(
    visit: np.ndarray, acute: np.ndarray, is_late: np.ndarray, acquired: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows in order of visit and priority: diagnosis, priority, and both flags, `[N]` each.

    Args:
        visit: Visit of each diagnosis: int64 `[C]`.
        acute: Whether it is an acute problem of a stay, which tends to be first: bool `[C]`.
        is_late: Whether it was recorded after admission, which makes it the last: bool `[C]`.
        acquired: Whether it was acquired in hospital: bool `[C]`.
        rng: Random generator.
    """
    count = len(visit)
    present = ~acquired & (~acute | (rng.random(count) < 0.75))
    sort_key = rng.random(count) - 0.6 * acute + 1.0 * is_late
    repeated = np.flatnonzero(rng.random(count) < REPEATED_SHARE)
    row = np.concatenate([np.arange(count), repeated])
    sort_key = np.concatenate([sort_key, 2 + sort_key[repeated]])
    third_party = rng.random(count) < 0.05
    row = row[np.lexsort((sort_key, visit[row]))]
    ordered = visit[row]
    priority = 1 + np.arange(len(row)) - np.searchsorted(ordered, ordered)
    return row, priority, present[row], third_party[row]


def _patients(entries: Entries, trajectories: Trajectories, names: pa.Array, kept: int) -> pa.Table:
    """Return the patients. Death is known only if it is observed."""
    died, last_day = trajectories.death[:kept], trajectories.last_day[:kept]
    left = last_day < EXTRACTION
    born = (entries.birth_year[:kept] - 1970).astype("datetime64[Y]").astype("datetime64[D]")
    columns = {
        "patient_id": names,
        "birth_date": pa.array(born),
        "sex": pa.array(np.where(entries.sex[:kept] == 1, "M", "F")),
        "death_date": pa.array((died // DAY).astype("datetime64[D]"), mask=died == 0),
        "observation_start": _days(entries.entry[:kept]),
        "observation_end": _days(last_day),
        "observation_end_reason": pa.array(
            np.where(left, ObservationEndReason.ENROLMENT.value, ObservationEndReason.EXTRACTION.value)
        ),
    }
    return pa.table([columns[name] for name in PATIENTS.names], schema=PATIENTS)


def _days(days: np.ndarray) -> pa.Array:
    return pa.array(days.astype("datetime64[D]"))


def _times(seconds: np.ndarray) -> pa.Array:
    return pa.array(seconds.astype("datetime64[s]").astype("datetime64[us]"))
