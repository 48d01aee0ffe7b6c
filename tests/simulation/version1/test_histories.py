import numpy as np

from ehr_bert.simulation.conditions import Conditions
from ehr_bert.simulation.version1.histories import SimulatedHistories, _onsets, simulate_histories


def test_every_patient_has_visits_and_every_visit_a_diagnosis(before: SimulatedHistories) -> None:
    assert np.array_equal(np.unique(before.patient), np.arange(len(before.prevalent)))
    assert np.array_equal(np.unique(before.visit), np.arange(len(before.patient)))


def test_visits_are_in_order_and_never_overlap(before: SimulatedHistories) -> None:
    same = before.patient[1:] == before.patient[:-1]
    assert (np.diff(before.patient) >= 0).all()
    assert (before.admitted[1:] > before.discharged[:-1])[same].all()


def test_only_stays_have_days(before: SimulatedHistories) -> None:
    assert np.array_equal(before.stay > 0, before.inpatient)


def test_the_mean_number_of_visits_is_as_requested(conditions: Conditions) -> None:
    for visits in (1.0, 6.5, 30.0):
        histories = simulate_histories(conditions, 2003, visits, np.random.default_rng(3))
        assert abs(len(histories.patient) / 2003 - visits) < 0.05 * visits


def test_a_condition_that_needs_a_cause_starts_after_it(conditions: Conditions) -> None:
    onsets = _onsets(conditions.chronic, 997, np.random.default_rng(1))
    derived = [condition for condition in conditions.chronic if not condition.arises]
    assert derived
    for condition in derived:
        causes = onsets[:, [conditions.numbers[cause] for cause in condition.after]]
        onset = onsets[:, conditions.numbers[condition.name]]
        arisen = np.isfinite(onset)
        assert arisen.any()
        assert (onset > causes.min(1))[arisen].all()


def test_a_cause_makes_its_effect_more_frequent(conditions: Conditions) -> None:
    onsets = _onsets(conditions.chronic, 5003, np.random.default_rng(2))
    by_60 = onsets < 42
    obese = by_60[:, conditions.numbers["obesity"]]
    diabetic = by_60[:, conditions.numbers["diabetes"]]
    assert diabetic[obese].mean() > 1.5 * diabetic[~obese].mean()


def test_no_one_has_conditions_of_both_sexes(conditions: Conditions) -> None:
    onsets = _onsets(conditions.chronic, 5003, np.random.default_rng(4))
    male, female = (
        np.isfinite(onsets[:, [condition.sex == sex for condition in conditions.chronic]]).any(1)
        for sex in ("male", "female")
    )
    assert male.any()
    assert female.any()
    assert not (male & female).any()


def test_without_new_cases_the_outcome_is_only_in_prevalent_patients(
    conditions: Conditions, before: SimulatedHistories
) -> None:
    outcome = before.family == conditions.numbers["heart_failure"]
    patients = np.unique(before.patient[before.visit[outcome]])
    assert len(patients)
    assert before.prevalent[patients].all()


def test_the_diagnoses_of_a_stay_predict_its_length(
    conditions: Conditions, before: SimulatedHistories
) -> None:
    sepsis = np.zeros(len(before.patient), bool)
    sepsis[before.visit[before.family == conditions.numbers["sepsis"]]] = True
    stays = before.inpatient
    assert (before.stay[stays & sepsis] > 7).mean() > 2 * (before.stay[stays & ~sepsis] > 7).mean()
