import numpy as np
import pytest

from ehr_bert.simulation.mechanism import Preset
from ehr_bert.simulation.states import CORE_DISEASES, DISEASES, HAS, Transition
from ehr_bert.simulation.trajectories import (
    DAY,
    EXTRACTION,
    HIDDEN_KINDS,
    INTAKE,
    continue_trajectories,
    start_of_year,
    year_of,
)
from tests.simulation.simulated import Simulated, simulated


@pytest.fixture(scope="module")
def population() -> Simulated:
    return simulated(Preset.DEFAULT, 3001)


def test_events_are_in_order_and_within_the_observation(population: Simulated) -> None:
    events, entries = population.trajectories, population.entries
    key = events.patient * 10**11 + events.time
    assert (np.diff(key) >= 0).all()
    assert (events.time // DAY >= entries.entry[events.patient]).all()
    assert (events.time // DAY <= events.last_day[events.patient]).all()
    assert (events.last_day <= EXTRACTION).all()
    dead = events.death[events.patient] > 0
    assert (events.time <= events.death[events.patient])[dead].all()
    assert (events.time % DAY > 0).all()


def test_each_patient_has_one_intake_and_it_comes_first(population: Simulated) -> None:
    events = population.trajectories
    first = np.searchsorted(events.patient, np.arange(3001))
    assert (events.kind[first] == INTAKE).all()
    assert (events.kind == INTAKE).sum() == 3001


def test_a_disease_begins_once_and_stays(population: Simulated) -> None:
    events = population.trajectories
    for number in range(len(DISEASES)):
        onsets = events.patient[events.kind == number]
        assert len(onsets) == len(np.unique(onsets))
    same = events.patient[1:] == events.patient[:-1]
    for has in HAS:
        assert (has[events.state[:-1]] <= has[events.state[1:]])[same].all()
    assert (events.leaves[:-1] & ~events.leaves[1:])[same].max() == 0


def test_no_visit_begins_during_a_stay(population: Simulated) -> None:
    events = population.trajectories
    visits = events.only(events.opens_visit)
    same = visits.patient[1:] == visits.patient[:-1]
    assert (visits.time[1:] >= visits.discharge[:-1])[same].all()
    assert (visits.discharge >= visits.time).all()
    assert (visits.discharge > visits.time)[visits.inpatient].mean() > 0.99
    assert (visits.discharge == visits.time)[~visits.inpatient].all()


def test_what_is_acquired_in_hospital_belongs_to_the_stay(population: Simulated) -> None:
    events = population.trajectories.recorded
    acquired = np.flatnonzero(
        (events.discharge > 0) & ~events.opens_visit & (events.kind != Transition.DEATH)
    )
    visit = np.flatnonzero(events.opens_visit)
    opening = visit[np.searchsorted(visit, acquired) - 1]
    assert len(acquired) > 5
    assert (events.inpatient[opening]).all()
    assert (events.discharge[opening] == events.discharge[acquired]).all()
    assert (events.time[acquired] <= events.discharge[acquired]).all()


def test_stays_end_with_death(population: Simulated) -> None:
    events = population.trajectories
    deaths = events.kind == Transition.DEATH
    in_hospital = deaths & (events.discharge > 0)
    assert in_hospital.any()
    assert (events.discharge[in_hospital] == events.time[in_hospital]).all()
    assert (events.discharge[events.discharge > 0] % DAY > 0).all()


def test_a_record_shows_no_hidden_event(population: Simulated) -> None:
    recorded = population.trajectories.recorded
    assert not np.isin(recorded.kind, HIDDEN_KINDS).any()
    assert np.isin(population.trajectories.kind, HIDDEN_KINDS).any()


def test_rates_of_onsets_are_those_of_the_mechanism() -> None:
    population = simulated(Preset.CONSTANT_HAZARD, 4001)
    events, entries = population.trajectories, population.entries
    end = np.where(events.death > 0, events.death, (events.last_day + 1) * DAY)
    intake = events.time[events.kind == INTAKE]
    for number in range(len(CORE_DISEASES)):
        free = ~HAS[number, entries.state]
        onset = end.copy()
        is_onset = events.kind == number
        onset[events.patient[is_onset]] = events.time[is_onset]
        expected = population.mechanism.base[number, 0, 0, 0] * (onset - intake)[free].sum() / DAY
        assert abs(is_onset.sum() - expected) < 4 * np.sqrt(expected)


def test_continued_events_start_at_the_day_and_end_in_time(population: Simulated) -> None:
    events = continue_trajectories(population.mechanism, population.entries, 40, np.random.default_rng(1))
    days = events.time / DAY - population.entries.entry[events.patient]
    assert (days > 0).all()
    assert (days < 40).all()
    assert INTAKE not in events.kind


@pytest.mark.parametrize("year", [1931, 1970, 2000, 2020])
def test_years_start_on_new_years_day(year: int) -> None:
    start = int(start_of_year(year))
    assert year_of(np.array([start - 1, start, start + 366 * DAY - DAY - 1])).tolist() == [
        year - 1,
        year,
        year,
    ]
