import numpy as np
import pytest

from ehr_bert.simulation.mechanism import AGES, FIRST_YEAR, LAST_YEAR, YEAR_DAYS, Preset, mechanism_of
from ehr_bert.simulation.states import DISEASES, FRAILTY, POSSIBLE, Transition


@pytest.mark.parametrize("preset", list(Preset))
def test_impossible_events_have_no_rate_and_possible_ones_have(preset: Preset) -> None:
    mechanism = mechanism_of(preset, visits=20)
    rates = mechanism.rates(1, 70, 2015)
    assert (rates[~POSSIBLE] == 0).all()
    needs_a_disease = np.zeros_like(POSSIBLE)
    needs_a_disease[Transition.DAMAGE] = preset is Preset.DEFAULT
    assert (rates[POSSIBLE & ~needs_a_disease] > 0).all()
    assert np.isfinite(mechanism.base).all()


def test_every_disease_has_the_same_rate_in_all_states_without_signal() -> None:
    mechanism = mechanism_of(Preset.CONSTANT_HAZARD, visits=20)
    for disease in range(len(DISEASES)):
        rates = mechanism.multiplier[disease][POSSIBLE[disease]]
        assert (rates == 1).all()
        assert np.ptp(mechanism.base[disease]) == 0


def test_ages_and_years_beyond_the_tables_have_the_last_rates() -> None:
    mechanism = mechanism_of(Preset.DEFAULT, visits=20)
    oldest = mechanism.base_rates(0, AGES - 1, LAST_YEAR)
    assert np.array_equal(mechanism.base_rates(0, AGES + 9, LAST_YEAR + 9), oldest)
    assert np.array_equal(
        mechanism.base_rates(0, 50, FIRST_YEAR - 9), mechanism.base_rates(0, 50, FIRST_YEAR)
    )


def test_leaving_depends_on_frailty_only_if_it_is_informative() -> None:
    def multipliers(share: float) -> np.ndarray:
        return mechanism_of(Preset.DEFAULT, 20, share).multiplier[Transition.LEAVING]

    assert np.ptp(multipliers(0)) == 0
    informative = multipliers(0.5)
    assert np.array_equal(np.argsort([informative[level == FRAILTY].mean() for level in range(3)]), [0, 1, 2])


def test_more_visits_raise_the_rate_of_visits_only() -> None:
    few, many = (mechanism_of(Preset.DEFAULT, visits).base for visits in (5, 50))
    changed = np.flatnonzero((few != many).any(axis=(1, 2, 3)))
    assert changed.tolist() == [Transition.VISIT]
    assert few[Transition.VISIT, 0, 60, 0] * YEAR_DAYS < many[Transition.VISIT, 0, 60, 0] * YEAR_DAYS
