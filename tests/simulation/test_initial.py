from dataclasses import replace

import numpy as np

from ehr_bert.simulation.initial import ADULT_AGE
from ehr_bert.simulation.mechanism import Preset
from ehr_bert.simulation.states import HIDDEN_STATES, IN_ORDER, STATES
from ehr_bert.simulation.trajectories import Entries, continue_trajectories
from tests.simulation.simulated import initial_states, simulated

PATIENTS, AGE = 6000, 58


def test_probabilities_agree_with_patients_who_are_simulated_from_age_18() -> None:
    mechanism = simulated(Preset.DEFAULT, 100).mechanism
    quiet = replace(mechanism, multiplier=mechanism.multiplier.copy())
    quiet.multiplier[-2:] = 0  # leaving and visits
    zeros, ones = np.zeros(PATIENTS, int), np.ones(PATIENTS, int)
    start = int(np.datetime64("1968-01-01").astype(int))
    born = Entries(ones, 1950 * ones, start * ones, zeros, zeros)
    days = int((np.datetime64("2008-01-01") - np.datetime64("1968-01-01")).astype(int))
    events = continue_trajectories(quiet, born, days, np.random.default_rng(5))
    last = np.searchsorted(events.patient, np.arange(PATIENTS), side="right") - 1
    alive = (events.death == 0) & (last >= 0) & (events.patient[last] == np.arange(PATIENTS))
    healthy = (events.death == 0) & ~alive
    state = np.concatenate([events.state[last[alive]], np.zeros(healthy.sum(), int)])
    leaves = np.concatenate([events.leaves[last[alive]], np.zeros(healthy.sum(), int)])
    expected = initial_states(Preset.DEFAULT).probabilities[1, AGE - ADULT_AGE]
    count = len(state)
    for number in range(6):
        has = np.arange(STATES) // HIDDEN_STATES >> (1 + number) & 1 == 1
        _assert_share(has[state], expected[:, has].sum(), count)
    for number in range(3):
        has = np.arange(len(expected)) >> number & 1 == 1
        _assert_share(has[leaves], expected[has].sum(), count)
    hidden = expected.reshape(len(expected), -1, HIDDEN_STATES).sum((0, 1))
    for value in range(HIDDEN_STATES):
        _assert_share(state % HIDDEN_STATES == value, hidden[value], count)


def test_diseases_at_entry_have_no_order() -> None:
    probabilities = initial_states(Preset.DEFAULT).probabilities
    assert probabilities[..., IN_ORDER].sum() == 0
    np.testing.assert_allclose(probabilities.sum((2, 3)), 1)


def test_hidden_states_of_drawn_patients_have_the_given_probabilities() -> None:
    initial, rng = initial_states(Preset.DEFAULT), np.random.default_rng(2)
    sex, age = rng.integers(0, 2, 20_001), rng.integers(ADULT_AGE, 91, 20_001)
    leaves, state = initial.draw(sex, age, rng.random(len(sex)))
    hidden = initial.hidden(sex, age, leaves, state // HIDDEN_STATES)
    np.testing.assert_allclose(hidden.sum(1), 1)
    drawn = np.bincount(state % HIDDEN_STATES, minlength=HIDDEN_STATES)
    error = np.sqrt((hidden * (1 - hidden)).sum(0))
    assert (np.abs(drawn - hidden.sum(0)) < 4 * error + 1e-9).all()


def _assert_share(values: np.ndarray, share: float, count: int) -> None:
    assert abs(values.mean() - share) < 4 * np.sqrt(share * (1 - share) / count) + 1e-3
