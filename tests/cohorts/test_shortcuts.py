"""Models of what should tell little, on made-up cohorts with and without a shortcut."""

from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest

from ehr_bert.cohorts import shortcuts as shortcuts_module
from ehr_bert.cohorts.cohort import cohort_of
from ehr_bert.cohorts.shortcuts import FEWEST, shortcuts, shortcuts_to
from ehr_bert.schemas import COHORT

INDEX = date(2015, 6, 1)


def history(random, label):
    """Visits from the first to the last, days before the index date apart: their days, and their codes."""
    days = np.sort(random.choice(np.arange(40, 900), random.integers(1, 5), replace=False))[::-1]
    visits = [(int(day), random.choice(30, random.integers(1, 4), replace=False)) for day in days]
    visits.append((0, random.choice(30, random.integers(1, 4), replace=False)))
    coded = [(day, [f"ICD9_{code}" for code in codes]) for day, codes in visits]
    if label and random.random() < 0.3:
        coded[0][1].append("ICD9_risk")
    return coded


def cohort_table(change=lambda random, label, visits: visits, examples=500, share=0.4):
    """A cohort table whose outcome is told a little by a code of the first visit, and as `change` does."""
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


def found(table):
    """By what was looked at, whether it is as it should be, and what is told."""
    structure, codes = shortcuts_to("label", cohort_of(table, {}, "here"))
    assert structure.is_warning
    assert codes.is_warning
    return structure, codes


def test_a_plausible_cohort_has_no_shortcut():
    structure, codes = found(cohort_table())
    assert structure.ok, structure
    assert codes.ok, codes


def test_an_outcome_told_by_the_number_of_visits_alone_is_found():
    structure, _ = found(cohort_table(lambda random, label, visits: visits if label else visits[-1:]))
    assert not structure.ok
    assert "AUROC 0.9" in structure.detail or "AUROC 1.0" in structure.detail


def test_an_outcome_told_by_a_code_of_the_last_days_is_found():
    def diagnosed(random, label, visits):
        if label and random.random() < 0.6:
            visits[-1][1].append("ICD9_biopsy")
        return visits

    structure, codes = found(cohort_table(diagnosed))
    assert structure.ok
    assert not codes.ok
    assert "without the last 30 days" in codes.detail
    assert codes.detail.endswith("the code that tells most is ICD9_biopsy")


def test_a_code_that_tells_everything_is_found_wherever_it_stands():
    def treated(random, label, visits):
        if label:
            visits[0][1].append("ICD9_treated")
        return visits

    _, codes = found(cohort_table(treated))
    assert not codes.ok
    assert codes.detail.endswith("ICD9_treated")


def test_too_few_outcomes_are_not_looked_at():
    for finding in found(cohort_table(examples=FEWEST + 9)):
        assert finding.ok
        assert "fewer than" in finding.detail


def test_histories_of_one_visit_have_nothing_earlier():
    _, codes = found(cohort_table(lambda random, label, visits: visits[-1:]))
    assert codes.ok
    assert "without the last" not in codes.detail


def test_unknown_dates_and_labels_are_no_matter():
    rows = cohort_table().to_pylist()
    for row in rows:
        row["index_date"] = None
        row["admit_date"] = [None] * len(row["admit_date"])
    rows[0]["label"] = None
    table = pa.Table.from_pylist(rows, schema=cohort_table(examples=1).schema)
    assert all(finding.ok for finding in found(table))


def test_training_examples_alone_are_looked_at(engine):
    table = cohort_table(lambda random, label, visits: visits if label else visits[-1:])
    of_test = table.set_column(2, "split", pa.array(["test"] * len(table)))
    assert not all(finding.ok for finding in shortcuts(engine, engine.load(table)))
    assert all("fewer than" in finding.detail for finding in shortcuts(engine, engine.load(of_test)))


def test_so_many_examples_are_looked_at(engine, monkeypatch):
    seen = []
    monkeypatch.setattr(shortcuts_module, "EXAMPLES", 70)
    monkeypatch.setattr(shortcuts_module, "shortcuts_to", lambda task, train: seen.append(train) or [])
    shortcuts(engine, engine.load(pa.concat_tables([cohort_table(examples=50)] * 2)))
    assert len(seen[0]) == 70
    assert len(set(seen[0].patient_ids)) > 30


def test_a_patient_is_not_in_two_folds(engine):
    table = cohort_table(examples=120)
    several = pa.concat_tables([table] * 5)
    by_patient = shortcuts(engine, engine.load(several))[1]
    auroc = float(by_patient.detail.split("AUROC ")[1][:4])
    assert auroc == pytest.approx(0.6, abs=0.12)
