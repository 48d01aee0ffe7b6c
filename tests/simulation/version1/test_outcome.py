from dataclasses import replace
from math import exp

import numpy as np
import pytest

from ehr_bert.simulation.conditions import Conditions
from ehr_bert.simulation.version1.histories import SimulatedHistories
from ehr_bert.simulation.version1.outcome import SimulatedCohort, risks


def reference_risk(conditions: Conditions, visits: list[tuple[int, int, set[str]]], index_date: int) -> float:
    """Return one patient's risk, from visits of (admitted, discharged, names), in plain Python."""
    outcome = conditions.outcome
    past = [visit for visit in visits if visit[1] <= index_date]
    dates: dict[str, list[int]] = {}
    for _, discharged, names in past:
        for name in names:
            dates.setdefault(name, []).append(discharged)
    prolonged = len([1 for admitted, discharged, _ in past if discharged - admitted > 7])
    log_odds = outcome.log_odds + outcome.prolonged_stay * min(prolonged, outcome.most_stays)
    log_odds += sum(weight for name, weight in outcome.recorded.items() if name in dates)
    log_odds += sum(
        weight * exp(-(index_date - max(dates[name])) / outcome.recency_days)
        for name, weight in outcome.recent.items()
        if name in dates
    )
    log_odds += sum(term["weight"] for term in outcome.together if dates.keys() >= set(term["of"]))
    log_odds += sum(
        term["weight"]
        for term in outcome.in_order
        if {term["first"], term["then"]} <= dates.keys()
        and min(dates[term["first"]]) < min(dates[term["then"]])
    )
    return 1 / (1 + exp(-log_odds))


def test_risks_equal_the_reference(
    conditions: Conditions, with_outcome: tuple[SimulatedHistories, SimulatedCohort]
) -> None:
    histories, cohort = with_outcome
    names = [family.name for family in conditions.families]
    for member in range(0, len(cohort.patient), 7):
        visits = [
            (
                int(histories.admitted[visit]),
                int(histories.discharged[visit]),
                {names[family] for family in histories.family[histories.visit == visit]},
            )
            for visit in np.flatnonzero(histories.patient == cohort.patient[member])
        ]
        expected = reference_risk(conditions, visits, int(cohort.index_date[member]))
        assert cohort.risk[member] == pytest.approx(expected)


def test_risk_does_not_depend_on_the_future(
    conditions: Conditions, with_outcome: tuple[SimulatedHistories, SimulatedCohort]
) -> None:
    histories, cohort = with_outcome
    index_date = np.zeros(len(histories.prevalent), np.int64)
    index_date[cohort.patient] = cohort.index_date
    later = (histories.discharged > index_date[histories.patient])[histories.visit]
    assert later.any()
    erased = replace(histories, visit=histories.visit[~later], family=histories.family[~later])
    assert np.array_equal(risks(conditions, erased, index_date)[cohort.patient], cohort.risk)


def test_cases_and_only_cases_have_the_outcome_coded_within_the_horizon(
    conditions: Conditions, with_outcome: tuple[SimulatedHistories, SimulatedCohort]
) -> None:
    histories, cohort = with_outcome
    visit = histories.visit[histories.family == conditions.numbers["heart_failure"]]
    for patient, index_date, label in zip(cohort.patient, cohort.index_date, cohort.label, strict=True):
        dates = histories.discharged[visit[histories.patient[visit] == patient]]
        assert len(dates) > 0 if label else len(dates) == 0
        if label:
            assert index_date < dates.min() <= index_date + conditions.outcome.horizon_days


def test_members_have_history_and_follow_up_and_no_prevalent_outcome(
    conditions: Conditions, with_outcome: tuple[SimulatedHistories, SimulatedCohort]
) -> None:
    histories, cohort = with_outcome
    assert not histories.prevalent[cohort.patient].any()
    for patient, index_date in zip(cohort.patient, cohort.index_date, strict=True):
        dates = histories.discharged[histories.patient == patient]
        assert index_date in dates
        assert (dates <= index_date).sum() >= 3
        assert dates.max() >= index_date + conditions.outcome.horizon_days


def test_the_number_of_cases_agrees_with_the_risks(
    with_outcome: tuple[SimulatedHistories, SimulatedCohort],
) -> None:
    _, cohort = with_outcome
    error = np.sqrt((cohort.risk * (1 - cohort.risk)).sum())
    assert abs(cohort.label.sum() - cohort.risk.sum()) < 4 * error
