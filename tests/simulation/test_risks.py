import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.linalg import expm_multiply

from ehr_bert.simulation.mechanism import YEAR_DAYS, Mechanism, Preset, mechanism_of
from ehr_bert.simulation.risks import OUTCOMES, risk_table
from ehr_bert.simulation.states import CORE_DISEASES, DISEASES, HAS, POSSIBLE, STATES, TARGETS, Transition

DAY = int(np.datetime64("2014-09-20").astype(int))
HORIZONS = (30, 1, 400)


def test_risks_under_constant_hazards_have_their_closed_form() -> None:
    mechanism = mechanism_of(Preset.CONSTANT_HAZARD, visits=20)
    table = risk_table(mechanism, 1, 1960, DAY, HORIZONS)
    rates = mechanism.base[:, 0, 0, 0]
    death = rates[Transition.DEATH]
    for number, name in enumerate(OUTCOMES):
        rate = rates[number]
        free = POSSIBLE[number]
        for place, days in enumerate(HORIZONS):
            alone = 1 - np.exp(-rate * days)
            together = rate / (rate + death) * (1 - np.exp(-(rate + death) * days))
            if name == "death":
                np.testing.assert_allclose(table.with_death[free, number, place], alone, rtol=1e-8)
                assert np.isnan(table.without_death[free, number, place]).all()
            else:
                np.testing.assert_allclose(table.with_death[free, number, place], together, rtol=1e-8)
                np.testing.assert_allclose(table.without_death[free, number, place], alone, rtol=1e-8)


@pytest.mark.parametrize("with_death", [True, False])
@pytest.mark.parametrize("outcome", ["heart_failure", "depression", "death"])
def test_risks_agree_with_the_matrix_exponential(outcome: str, with_death: bool) -> None:
    if outcome == "death" and not with_death:
        pytest.skip("no patient dies")
    mechanism = mechanism_of(Preset.DEFAULT, visits=20)
    table = risk_table(mechanism, 0, 1948, DAY, HORIZONS)
    number, place = OUTCOMES.index(outcome), HORIZONS.index(400)
    risks = (table.with_death if with_death else table.without_death)[:, number, place]
    expected = _risks_by_exponential(mechanism, 0, 1948, outcome, with_death)
    np.testing.assert_allclose(risks, expected, atol=1e-9)


def test_risks_rise_with_the_horizon_and_without_death() -> None:
    table = risk_table(mechanism_of(Preset.DEFAULT, visits=20), 1, 1935, DAY, HORIZONS)
    by_horizon = table.with_death[..., np.argsort(HORIZONS)]
    assert (np.diff(by_horizon, axis=2) >= -1e-12).all()
    diseases = slice(len(DISEASES))
    assert (table.without_death[:, diseases] >= table.with_death[:, diseases] - 1e-12).all()
    for disease in range(len(CORE_DISEASES)):
        np.testing.assert_allclose(table.with_death[HAS[disease], disease], 1)


def _risks_by_exponential(
    mechanism: Mechanism, sex: int, birth_year: int, outcome: str, with_death: bool
) -> np.ndarray:
    """Probability of being absorbed by the outcome within 400 days, with a state for it and one for death."""
    reached, dead = STATES, STATES + 1
    risks = np.zeros(STATES + 2)
    risks[reached] = 1
    number = OUTCOMES.index(outcome)
    if number < len(CORE_DISEASES):
        risks[:STATES][HAS[number]] = 1
    last = DAY + 400
    first_days = [np.datetime64(f"{year}-01-01").astype(int) for year in (2015, 2016)]
    cuts = [DAY, *(int(day) for day in first_days if day < last), last]
    for before, after in zip(cuts[-2::-1], cuts[:0:-1], strict=True):
        year = int(str(np.datetime64(before, "D"))[:4])
        rates = mechanism.rates(sex, year - birth_year, year)
        generator = sparse.lil_matrix((STATES + 2, STATES + 2))
        for state in range(STATES):
            if number < len(CORE_DISEASES) and HAS[number, state]:
                continue
            for kind in range(len(rates)):
                rate = rates[kind, state]
                if kind == number and kind != Transition.DEATH:
                    target = reached
                elif kind == Transition.DEATH:
                    target = reached if outcome == "death" else dead
                    rate *= with_death
                else:
                    target = TARGETS[kind, state]
                generator[state, target] += rate
                generator[state, state] -= rate
        risks = expm_multiply(generator.tocsr() * (after - before), risks)
    return risks[:STATES]


def test_a_year_of_rates_is_of_the_stated_length() -> None:
    mechanism = mechanism_of(Preset.CONSTANT_HAZARD, visits=20)
    assert mechanism.base[OUTCOMES.index("hypertension"), 0, 0, 0] * YEAR_DAYS == pytest.approx(0.06)
