"""Truth against simulated outcomes, and against estimates of an independent library."""

from dataclasses import replace
from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from sksurv.nonparametric import cumulative_incidence_competing_risks, kaplan_meier_estimator

from ehr_bert.simulation.mechanism import Preset
from ehr_bert.simulation.risks import OUTCOMES
from ehr_bert.simulation.states import DISEASES, Transition
from ehr_bert.simulation.trajectories import DAY, Entries
from ehr_bert.simulation.truth import TRUTH, Landmark, RiskTables, landmarks, sampled_risks, truth_rows
from tests.simulation.simulated import LANDMARK, Simulated, simulated

HORIZONS = (365, 1095)
PATIENTS = 12_000


@cache
def tables(preset: Preset) -> RiskTables:
    return RiskTables(simulated(preset, 100).mechanism, HORIZONS)


@cache
def at_landmark(
    preset: Preset, seed: int = 0, informative: float = 0.0, leaving: float = 1.0
) -> tuple[Simulated, Landmark]:
    population = simulated(preset, PATIENTS, seed, informative, leaving, 8)
    marks = landmarks(
        population.mechanism,
        population.initial,
        population.entries,
        population.trajectories,
        population.symptoms,
        [LANDMARK],
    )
    return population, marks[LANDMARK]


def times_after(population: Simulated, mark: Landmark, outcome: int) -> tuple[np.ndarray, np.ndarray]:
    """Return days to the outcome, death or the end of observation, and 1, 2 or 0 for which it is: `[N]`."""
    events, start = population.trajectories, LANDMARK * DAY
    end = (events.last_day[mark.patients] + 1) * DAY - start
    kind = np.zeros(len(mark.patients), int)
    death = events.death[mark.patients] - start
    died = events.death[mark.patients] > 0
    end, kind = np.where(died, death, end), np.where(died, 2, kind)
    if outcome == Transition.DEATH:
        return end / DAY, np.where(kind == 2, 1, 0)
    onset = np.full(len(population.entries.sex), np.iinfo(np.int64).max)
    is_onset = events.kind == outcome
    onset[events.patient[is_onset]] = events.time[is_onset] - start
    onset = onset[mark.patients]
    return np.minimum(end, onset) / DAY, np.where(onset <= end, 1, kind)


@pytest.mark.parametrize("preset", list(Preset))
@pytest.mark.parametrize("outcome", range(len(OUTCOMES)))
def test_estimates_under_random_censoring_agree_with_the_truth(preset: Preset, outcome: int) -> None:
    population, mark = at_landmark(preset)
    risks = tables(preset).risks(population.entries, mark, LANDMARK)
    free = ~mark.has[:, outcome]
    days, event = times_after(population, mark, outcome)
    days, event = days[free], event[free]
    if outcome == Transition.DEATH:
        times, survival, interval = kaplan_meier_estimator(event == 1, days, conf_type="log-log")
        estimates, low = 1 - survival, 1 - interval[1]
    else:
        times, incidence, intervals = cumulative_incidence_competing_risks(event, days, conf_type="log-log")
        estimates, low = incidence[1], intervals[1][0]
    for number, horizon in enumerate(HORIZONS):
        place = np.searchsorted(times, horizon) - 1
        error = (estimates[place] - low[place]) / 1.96
        assert abs(estimates[place] - risks["risk"][free, outcome, number].mean()) < 4 * error


@pytest.mark.parametrize("outcome", range(len(DISEASES)))
def test_kaplan_meier_agrees_with_the_risk_without_death_if_death_is_independent(outcome: int) -> None:
    population, mark = at_landmark(Preset.CONSTANT_HAZARD)
    risks = tables(Preset.CONSTANT_HAZARD).risks(population.entries, mark, LANDMARK)
    free = ~mark.has[:, outcome]
    days, event = times_after(population, mark, outcome)
    times, survival, interval = kaplan_meier_estimator(event[free] == 1, days[free], conf_type="log-log")
    for number, horizon in enumerate(HORIZONS):
        place = np.searchsorted(times, horizon) - 1
        error = (interval[1][place] - survival[place]) / 1.96
        truth = risks["risk_without_death"][free, outcome, number].mean()
        assert abs(1 - survival[place] - truth) < 4 * error


def test_informative_censoring_biases_the_estimate_of_death() -> None:
    population, mark = at_landmark(Preset.DEFAULT, 4, 1.0, leaving=8.0)
    risks = tables(Preset.DEFAULT).risks(population.entries, mark, LANDMARK)
    days, event = times_after(population, mark, Transition.DEATH)
    times, survival, interval = kaplan_meier_estimator(event == 1, days, conf_type="log-log")
    place = np.searchsorted(times, 1095) - 1
    error = (interval[1][place] - survival[place]) / 1.96
    assert 1 - survival[place] < risks["risk"][:, -1, 1].mean() - 3 * error


@pytest.mark.parametrize("preset", list(Preset))
@pytest.mark.parametrize("kind", ["risk", "full_risk"])
def test_risks_are_calibrated_among_patients_who_never_leave(preset: Preset, kind: str) -> None:
    population, mark = at_landmark(preset, 7, leaving=0.0)
    risks = tables(preset).risks(population.entries, mark, LANDMARK)[kind]
    for outcome in range(len(OUTCOMES)):
        days, event = times_after(population, mark, outcome)
        free = np.flatnonzero(~mark.has[:, outcome])
        for number, horizon in enumerate(HORIZONS):
            risk = risks[free, outcome, number]
            case = (event[free] == 1) & (days[free] < horizon)
            for group in np.array_split(np.argsort(risk, kind="stable"), 4):
                error = np.sqrt((risk[group] * (1 - risk[group])).sum())
                assert abs(case[group].sum() - risk[group].sum()) < 4.5 * error


def test_rows_leave_out_patients_who_have_the_outcome() -> None:
    population, mark = at_landmark(Preset.DEFAULT)
    names = pa.array([f"p{number}" for number in range(777)])
    rows = truth_rows(tables(Preset.DEFAULT), population.entries, mark, LANDMARK, names)
    assert rows.schema == TRUTH
    kept = mark.patients < 777
    assert rows.num_rows == 2 * (~mark.has[kept]).sum()
    assert set(rows["patient_id"].to_pylist()) == {f"p{number}" for number in mark.patients[kept]}
    table = rows.to_pandas()
    assert table.risk_without_death.isna().equals(table.outcome == "death")
    assert (table.risk_without_death.dropna() >= table.risk[table.outcome != "death"] - 1e-6).all()


@pytest.mark.parametrize("with_death", [True, False])
def test_sampled_risks_agree_within_their_standard_errors(with_death: bool) -> None:
    population, mark = at_landmark(Preset.DEFAULT)
    few = slice(40)
    entries = Entries(
        population.entries.sex[mark.patients[few]],
        population.entries.birth_year[mark.patients[few]],
        np.full(40, LANDMARK),
        mark.leaves[few],
        mark.state[few],
    )
    small = replace(mark, **{name: values[few] for name, values in vars(mark).items()})
    exact = tables(Preset.DEFAULT).risks(population.entries, small, LANDMARK)
    exact_risks = exact["risk" if with_death else "risk_without_death"]
    risks, errors = sampled_risks(
        population.mechanism,
        entries,
        mark.probabilities[few],
        HORIZONS,
        500,
        np.random.default_rng(3),
        with_death,
    )
    comparable = ~small.has
    for outcome, name in enumerate(OUTCOMES):
        if name == "death" and not with_death:
            assert (risks[:, outcome] == 0).all()
            continue
        exact_risk, free = exact_risks[:, outcome], comparable[:, outcome]
        variance = exact_risk * (1 - exact_risk) / 500
        difference = (risks[:, outcome] - exact_risk)[free].sum(0)
        assert (np.abs(difference) < 4.5 * np.sqrt(variance[free].sum(0))).all()
        frequent = free[:, None] & (exact_risk > 0.1)
        np.testing.assert_allclose(errors[:, outcome][frequent], np.sqrt(variance[frequent]), rtol=0.35)
