import numpy as np
import pytest
from scipy.linalg import expm

from ehr_bert.simulation.mechanism import Preset
from ehr_bert.simulation.states import CORE_DISEASES, HIDDEN_STATES, TARGETS, TRANSITIONS, Transition
from ehr_bert.simulation.trajectories import DAY, HIDDEN_KINDS, INTAKE, start_of_year, year_of
from tests.simulation.simulated import LANDMARK, Simulated, posterior_of, simulated


@pytest.mark.parametrize("informative_censoring", [0.0, 0.7])
def test_probabilities_agree_with_matrix_exponentials(informative_censoring: float) -> None:
    population = simulated(Preset.DEFAULT, 401, 3, informative_censoring)
    patients = np.flatnonzero(population.entries.entry < LANDMARK)[::9]
    posterior = posterior_of(population, patients)
    posterior.advance(LANDMARK * DAY)
    for place, patient in enumerate(patients):
        expected = _by_exponentials(population, patient, LANDMARK * DAY)
        np.testing.assert_allclose(posterior.probabilities[place], expected, atol=1e-9)


def test_two_steps_give_the_same_as_one() -> None:
    population = simulated(Preset.DEFAULT, 401, 3)
    patients = np.arange(401)

    def advanced(*days: int) -> np.ndarray:
        posterior = posterior_of(population, patients)
        for day in days:
            posterior.advance(day * DAY)
        return posterior.probabilities

    np.testing.assert_allclose(advanced(LANDMARK - 211, LANDMARK), advanced(LANDMARK), atol=1e-10)


def test_probabilities_are_calibrated() -> None:
    population = simulated(Preset.DEFAULT, 4001, 1)
    events, entries = population.trajectories, population.entries
    present = (entries.entry < LANDMARK) & (events.last_day >= LANDMARK)
    patients = np.flatnonzero(present & ((events.death == 0) | (events.death >= LANDMARK * DAY)))
    posterior = posterior_of(population, patients)
    posterior.advance(LANDMARK * DAY)
    last = np.searchsorted(events.patient * 10**11 + events.time, patients * 10**11 + LANDMARK * DAY) - 1
    truth = np.eye(HIDDEN_STATES)[events.state[last] % HIDDEN_STATES]
    probabilities = posterior.probabilities
    for low, high in [(0, 0.02), (0.02, 0.2), (0.2, 0.6), (0.6, 1.01)]:
        inside = (probabilities >= low) & (probabilities < high)
        expected = probabilities[inside].sum()
        error = np.sqrt((probabilities * (1 - probabilities))[inside].sum())
        assert abs(truth[inside].sum() - expected) < 4 * error


def _by_exponentials(population: Simulated, patient: int, until: int) -> np.ndarray:
    """Filter one patient, one event after the other, with a dense generator per interval."""
    entries, events, mechanism = population.entries, population.trajectories.recorded, population.mechanism
    sex, born = int(entries.sex[patient]), int(entries.birth_year[patient])
    seen = [kind for kind in range(TRANSITIONS) if kind not in HIDDEN_KINDS]
    recorded, leaves = int(entries.state[patient]) // HIDDEN_STATES, int(entries.leaves[patient])
    age = int(year_of(np.array(entries.entry[patient] * DAY))) - born
    current = population.initial.hidden(*(np.array([value]) for value in (sex, age, leaves, recorded)))[0]
    now, stay_end = None, 0
    past = np.flatnonzero((events.patient == patient) & (events.time < until)).tolist()
    for event in [*past, None]:
        target = until if event is None else int(events.time[event])
        while now is not None and now < target:
            year = int(year_of(np.array(now)))
            stop = min(target, int(start_of_year(year + 1)), stay_end if stay_end > now else target)
            rates = mechanism.rates(sex, year - born, year)[:, recorded * HIDDEN_STATES :][:, :HIDDEN_STATES]
            generator = np.zeros((HIDDEN_STATES, HIDDEN_STATES))
            for hidden in range(HIDDEN_STATES):
                for kind in HIDDEN_KINDS:
                    moved = TARGETS[kind, recorded * HIDDEN_STATES + hidden] % HIDDEN_STATES
                    generator[hidden, moved] += rates[kind, hidden]
                    generator[hidden, hidden] -= rates[kind, hidden]
                for kind in seen:
                    leaf = kind - len(CORE_DISEASES)
                    if 0 <= leaf < 3 and leaves >> leaf & 1:
                        continue
                    if kind == Transition.VISIT and stay_end > now:
                        continue
                    generator[hidden, hidden] -= rates[kind, hidden]
            current = current @ expm(generator * (stop - now) / DAY)
            now = stop
        if event is None:
            break
        now = target
        kind = int(events.kind[event])
        if kind != INTAKE:
            moved_to = np.zeros(HIDDEN_STATES)
            for hidden in range(HIDDEN_STATES):
                state = recorded * HIDDEN_STATES + hidden
                moved_to[TARGETS[kind, state] % HIDDEN_STATES] += (
                    current[hidden] * mechanism.multiplier[kind, state]
                )
            current = moved_to
        if events.opens_visit[event]:
            for number, probability in enumerate(mechanism.symptoms.values()):
                current = current * (probability if population.symptoms[event, number] else 1 - probability)
            if events.inpatient[event]:
                stay_end = int(events.discharge[event])
        recorded, leaves = int(events.state[event]) // HIDDEN_STATES, int(events.leaves[event])
        current = current / current.sum()
    return current / current.sum()
