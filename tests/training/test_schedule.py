import math

import numpy as np
import pytest

from ehr_bert.training.recipe import Phase
from ehr_bert.training.schedule import PhasedSchedule


def rates(phases, phase_steps, updates):
    schedule = PhasedSchedule(phases, phase_steps)
    return [float(schedule(update)) for update in range(updates)]


def test_the_learning_rate_rises_linearly_then_falls_to_nothing():
    actual = rates([Phase(learning_rate=2.0, warmup_steps=4)], [10], 12)
    np.testing.assert_allclose(actual, [0, 0.5, 1, 1.5, 1.2, 1, 0.8, 0.6, 0.4, 0.2, 0, 0], atol=1e-6)


def test_without_warm_up_the_first_update_has_the_peak():
    assert rates([Phase(learning_rate=2.0, warmup_steps=0)], [10], 1) == [2.0]


def test_warm_up_is_a_tenth_where_it_is_not_stated():
    actual = rates([Phase(learning_rate=3.0, decay="constant")], [30], 33)
    np.testing.assert_allclose(actual, [0, 1, 2, *[3] * 30], atol=1e-6)


def test_cosine_decay_begins_where_the_warm_up_ends():
    actual = rates([Phase(learning_rate=2.0, warmup_steps=3, decay="cosine")], [8], 10)
    falling = [1 + math.cos(math.pi * done / 5) for done in range(6)]
    np.testing.assert_allclose(actual, [0, 2 / 3, 4 / 3, *falling, 0], atol=1e-6)


def test_each_phase_warms_up_and_decays_on_its_own():
    phases = [
        Phase(learning_rate=4.0, warmup_steps=2),
        Phase(learning_rate=1.0, warmup_steps=1, decay="cosine"),
        Phase(learning_rate=7.0, warmup_steps=0, decay="constant"),
    ]
    lengths = [5, 3, 2]
    alone = [
        rate for phase, steps in zip(phases, lengths, strict=True) for rate in rates([phase], [steps], steps)
    ]
    assert rates(phases, lengths, 11) == [*alone, 7.0]


def test_moments_begin_with_the_phases_that_take_none_over():
    phases = [Phase(), Phase(carry_over="weights"), Phase(), Phase(carry_over="nothing")]
    schedule = PhasedSchedule(phases, [2, 3, 1, 2])
    assert [int(schedule.moments_begin(update)) for update in range(9)] == [0, 0, 2, 2, 2, 2, 6, 6, 6]
    assert PhasedSchedule(phases[:1], [2]).moments_begin(1) == 0


def test_the_rate_is_exact_after_years_of_steps():
    steps = 100_000_000
    schedule = PhasedSchedule([Phase(), Phase(learning_rate=1.0, warmup_steps=100)], [steps, steps])
    assert float(schedule(steps + 1)) == pytest.approx(0.01)


@pytest.mark.parametrize("decay", ["linear", "cosine", "constant"])
def test_a_warm_up_longer_than_the_phase_never_reaches_its_peak(decay):
    actual = rates([Phase(learning_rate=1.0, warmup_steps=10, decay=decay)], [5], 5)
    np.testing.assert_allclose(actual, [0, 0.1, 0.2, 0.3, 0.4], atol=1e-6)
