"""Shortcuts in constructed cohorts with and without one."""

from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest

from ehr_bert.cohorts import shortcuts as shortcuts_module
from ehr_bert.cohorts.cohort import cohort_of
from ehr_bert.cohorts.shortcuts import MIN_PER_CLASS, code_shortcut, structure_shortcut, training_sample
from ehr_bert.schemas import COHORT

INDEX = date(2015, 6, 1)


def history(random, label):
    """Return the visits in order: days before the index date, and codes."""
    days = np.sort(random.choice(np.arange(40, 900), random.integers(1, 5), replace=False))[::-1]
    visits = [(int(day), random.choice(30, random.integers(1, 4), replace=False)) for day in days]
    visits.append((0, random.choice(30, random.integers(1, 4), replace=False)))
    coded = [(day, [f"ICD9_{code}" for code in codes]) for day, codes in visits]
    if label and random.random() < 0.3:
        coded[0][1].append("ICD9_risk")
    return coded


def cohort_table(change=lambda random, label, visits: visits, examples=500, share=0.4):
    """Return a cohort table whose outcome depends weakly on a code of the first visit, and on `change`."""
    random = np.random.default_rng(11)
    rows = []
    for number in range(examples):
        label = int(random.random() < share)
        visits = change(random, label, history(random, label))
        rows.append(
            {
                "patient_id": f"{number:04}",
                "index_date": INDEX,
                "split": "train",
                "codes": ["SEX_F"] + [code for _, codes in visits for code in codes],
                "visit_ids": [1] + [place for place, (_, codes) in enumerate(visits, 1) for _ in codes],
                "admit_date": [INDEX - timedelta(day) for day, _ in visits],
                "los_days": [0] * len(visits),
                "days_to_next": [0] * len(visits),
                "label": label,
            }
        )
    return pa.Table.from_pylist(rows, schema=COHORT.append(pa.field("label", pa.int32())))


def shortcuts(table):
    """Return the violations by structure and by codes."""
    cohort = cohort_of(table, {}, "here")
    return structure_shortcut("label", cohort), code_shortcut("label", cohort)


def test_a_plausible_cohort_has_no_shortcut():
    structure, codes = shortcuts(cohort_table())
    assert structure.number == 0, structure
    assert codes.number == 0, codes


def test_an_outcome_predicted_by_the_number_of_visits_is_found():
    structure, _ = shortcuts(cohort_table(lambda random, label, visits: visits if label else visits[-1:]))
    assert structure.number == 1
    assert "AUROC 0.9" in structure.detail or "AUROC 1.0" in structure.detail


def test_an_outcome_predicted_by_a_code_of_the_last_days_is_found():
    def diagnosed(random, label, visits):
        if label and random.random() < 0.6:
            visits[-1][1].append("ICD9_biopsy")
        return visits

    structure, codes = shortcuts(cohort_table(diagnosed))
    assert structure.number == 0
    assert codes.number == 1
    assert "without the last 30 days" in codes.detail
    assert codes.detail.endswith("ICD9_biopsy")


def test_a_code_that_reveals_the_outcome_is_found_at_any_visit():
    def treated(random, label, visits):
        if label:
            visits[0][1].append("ICD9_treated")
        return visits

    _, codes = shortcuts(cohort_table(treated))
    assert codes.number == 1
    assert codes.detail.endswith("ICD9_treated")


def test_too_few_cases_are_not_checked():
    for violations in shortcuts(cohort_table(examples=MIN_PER_CLASS + 9)):
        assert violations.number == 0
        assert "not checked" in violations.detail


def test_histories_of_one_visit_have_no_earlier_days():
    _, codes = shortcuts(cohort_table(lambda random, label, visits: visits[-1:]))
    assert codes.number == 0
    assert "without the last" not in codes.detail


def test_unknown_dates_and_labels_are_accepted():
    rows = cohort_table().to_pylist()
    for row in rows:
        row["index_date"] = None
        row["admit_date"] = [None] * len(row["admit_date"])
    rows[0]["label"] = None
    table = pa.Table.from_pylist(rows, schema=cohort_table(examples=1).schema)
    assert [violations.number for violations in shortcuts(table)] == [0, 0]


def test_the_sample_has_training_examples_only(engine):
    table = cohort_table(examples=60)
    of_test = table.set_column(2, "split", pa.array(["train"] * 20 + ["test"] * 40))
    assert len(training_sample(engine, engine.load(of_test))) == 20


def test_the_sample_has_a_maximum_number_of_examples(engine, monkeypatch):
    monkeypatch.setattr(shortcuts_module, "MAX_EXAMPLES", 70)
    sample = training_sample(engine, engine.load(pa.concat_tables([cohort_table(examples=50)] * 2)))
    assert len(sample) == 70
    assert len(set(sample.patient_ids)) > 30


def test_a_patient_is_in_one_fold_only():
    several = pa.concat_tables([cohort_table(examples=120)] * 5)
    _, codes = shortcuts(several)
    auroc = float(codes.detail.split("AUROC ")[1][:4])
    assert auroc == pytest.approx(0.6, abs=0.12)
