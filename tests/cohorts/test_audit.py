"""Leaks added to cohorts without leaks."""

# Covers: ehr_bert.cohorts.recomputed

from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ehr_bert.codes import RollUp
from ehr_bert.cohorts.audit import COHORT_CHECKS, TASK_CHECKS, AuditedCohort, audit, refuse_leaks
from ehr_bert.cohorts.definition import Definition
from ehr_bert.cohorts.folder import write_cohort_folder
from ehr_bert.cohorts.source import Source
from ehr_bert.engines import DuckDBEngine
from ehr_bert.schemas import ContextKind
from ehr_bert.sources import read_events
from tests.cohorts.reference import write_extracted
from tests.cohorts.test_building import DEFINITIONS, some_patients
from tests.sequences.messy import messy_rows
from tests.user_errors import raises_user_error

SEVERAL = DEFINITIONS["several tasks"]
WITH_FOLLOW_UP = DEFINITIONS["first code, follow-up"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit") / "store"
    return write_extracted(folder, messy_rows(80, seed=71), some_patients(75))


@pytest.fixture(scope="module")
def clean(store, tmp_path_factory):
    """Return the rows of a cohort without leaks."""
    out = tmp_path_factory.mktemp("audit") / "cohort"
    with DuckDBEngine(out.parent) as engine:
        write_cohort_folder(engine, store, out, Definition.from_dict(WITH_FOLLOW_UP))
    return pq.read_table(out / "cohort")


def failures(engine, store, table, values=WITH_FOLLOW_UP, roll_up=RollUp.NONE, seed=0):
    """Return the violations of each check that fails, by its id, or by id and task of named tasks."""
    source = Source.read(engine, store, read_events(engine, store), roll_up)
    definition = None if values is None else Definition.from_dict(values)
    findings = audit(AuditedCohort(engine, engine.load(table), source, definition, seed))
    return {
        finding.id if finding.task in (None, "label") else (finding.id, finding.task): finding.violations
        for finding in findings
        if finding.level == "FAIL"
    }


def changed(table, change):
    """Return a table whose rows `change` has changed in place, as dicts."""
    rows = table.to_pylist()
    change(rows)
    return pa.Table.from_pylist(rows, schema=table.schema)


@pytest.mark.parametrize("name", ["several tasks", "before the outcome"])
def test_a_clean_cohort_passes(engine, store, tmp_path, name):
    write_cohort_folder(engine, store, tmp_path / "out", Definition.from_dict(DEFINITIONS[name]), seed=4)
    table = pq.read_table(tmp_path / "out" / "cohort")
    assert failures(engine, store, table, DEFINITIONS[name], seed=4) == {}


def test_tokens_and_rolled_up_codes_are_not_leaks(engine, store, tmp_path):
    definition = Definition.from_dict(WITH_FOLLOW_UP)
    options = {"roll_up": RollUp.CATEGORY, "kinds": frozenset(ContextKind)}
    write_cohort_folder(engine, store, tmp_path / "out", definition, **options)
    table = pq.read_table(tmp_path / "out" / "cohort")
    assert failures(engine, store, table, roll_up=RollUp.CATEGORY) == {}


def test_a_visit_after_the_index_date_is_found(engine, store, clean):
    def later_visit(rows):
        for row in rows[:3]:
            row["codes"].append("ICD9_7")
            row["visit_ids"].append(row["visit_ids"][-1] + 1)
            row["admit_date"].append(row["index_date"] + timedelta(1))
            row["los_days"].append(0)
            row["days_to_next"].append(0)

    assert failures(engine, store, changed(clean, later_visit)) == {"no-future-events": 3}


def test_a_stay_that_ends_after_the_index_date_is_found(engine, store, clean):
    def longer_stay(rows):
        rows[0]["los_days"][-1] += 1

    assert "no-future-events" in failures(engine, store, changed(clean, longer_stay))


def test_a_code_of_a_later_day_in_an_early_visit_is_found(engine, store, clean):
    def later_code(rows):
        rows[5]["codes"][-1] = "ICD9_99"

    assert failures(engine, store, changed(clean, later_code)) == {"no-future-events": 1}


def test_the_days_until_the_next_visit_are_a_leak(engine, store, clean):
    def days_to_next(rows):
        rows[1]["days_to_next"][-1] = 40

    assert "no-future-events" in failures(engine, store, changed(clean, days_to_next))


def test_a_code_of_the_outcome_in_a_history_is_found(engine, store, clean):
    def outcome_code(rows):
        control = next(row for row in rows if row["label"] == 0)
        control["codes"][0] = "ICD9_2"

    assert failures(engine, store, changed(clean, outcome_code))["no-earlier-outcome"] == 1


def test_an_earlier_outcome_of_the_record_that_is_not_in_the_history_is_found(engine, store, clean):
    later_outcome = {**WITH_FOLLOW_UP, "outcomes": [{"codes": ["ICD9_1", "ICD9_1?"], "follow_up_days": 200}]}
    assert failures(engine, store, clean, later_outcome)["no-earlier-outcome"] == len(clean)


@pytest.mark.parametrize("value", [0, 1])
def test_a_wrong_label_of_a_case_or_control_is_found(engine, store, clean, value):
    def other_label(rows):
        next(row for row in rows if row["label"] == value)["label"] = 1 - value

    assert failures(engine, store, changed(clean, other_label))["labels-match-record"] == 1


@pytest.fixture(scope="module")
def several(store, tmp_path_factory):
    """Return the rows of a cohort without leaks that has tasks of all kinds."""
    out = tmp_path_factory.mktemp("audit") / "several"
    with DuckDBEngine(out.parent) as engine:
        write_cohort_folder(engine, store, out, Definition.from_dict(SEVERAL))
    return pq.read_table(out / "cohort")


def another(label):
    """Return a different label of the same kind."""
    if isinstance(label, list) and label and label[-1] in (0, 1):
        return [*label[:-1], 1 - label[-1]]
    if isinstance(label, list):
        return label[1:] if label else ["ICD9_19"]
    return label + 1 if isinstance(label, float) else 1 - label


@pytest.mark.parametrize("task", ["failure", "again", "long", "days", "next"])
def test_a_label_that_contradicts_the_record_is_found(engine, store, several, task):
    def other_label(rows):
        row = next(row for row in rows if row[task] is not None and row[task][-1:] != [None])
        row[task] = another(row[task])

    def of_numbers(rows):
        row = next(row for row in rows if row[task] is not None)
        row[task] = another(row[task])

    is_list = task in ("again", "next")
    table = changed(several, other_label if is_list else of_numbers)
    assert failures(engine, store, table, SEVERAL)["labels-match-record", task] == 1


def test_labels_without_a_next_stay_are_found(engine, store, several):
    def made_up(rows):
        for row in rows:
            row["days"] = 3.0 if row["days"] is None else row["days"]

    count = several["days"].null_count
    assert count > 0
    assert failures(engine, store, changed(several, made_up), SEVERAL)["labels-match-record", "days"] == count


def test_too_few_labels_of_visits_are_found(engine, store, several):
    def shorter(rows):
        next(row for row in rows if row["again"] is not None)["again"].pop()

    assert failures(engine, store, changed(several, shorter), None) == {("one-label-per-visit", "again"): 1}


def test_a_patient_in_two_splits_is_found(engine, store, clean):
    def two_splits(rows):
        other = {"train": "test", "valid": "test", "test": "train"}[rows[0]["split"]]
        rows.append(rows[0] | {"index_date": rows[0]["index_date"] + timedelta(1), "split": other})

    violations = failures(engine, store, changed(clean, two_splits))
    assert violations["one-split-per-patient"] == 1
    assert "splits-as-in-preprocessing" in violations


def test_a_patient_in_another_split_than_in_preprocessing_is_found(engine, store, clean):
    def moved(rows):
        for row in rows:
            row["split"] = "test"

    assert failures(engine, store, changed(clean, moved)).keys() == {"splits-as-in-preprocessing"}


def test_a_control_without_enough_follow_up_is_found(engine, store, tmp_path):
    short = {**WITH_FOLLOW_UP, "outcomes": [WITH_FOLLOW_UP["outcomes"][0] | {"follow_up_days": 60}]}
    write_cohort_folder(engine, store, tmp_path / "out", Definition.from_dict(short))
    assert "control-follow-up" in failures(engine, store, pq.read_table(tmp_path / "out" / "cohort"))


def test_a_control_without_a_later_visit_is_found(engine, store, tmp_path):
    without_visit = {**WITH_FOLLOW_UP, "outcomes": [{"codes": ["ICD9_2"], "min_later_visits": 0}]}
    with_visits = {**WITH_FOLLOW_UP, "outcomes": [{"codes": ["ICD9_2"], "min_later_visits": 2}]}
    write_cohort_folder(engine, store, tmp_path / "out", Definition.from_dict(without_visit))
    table = pq.read_table(tmp_path / "out" / "cohort")
    assert failures(engine, store, table, without_visit) == {}
    assert failures(engine, store, table, with_visits).keys() == {"control-follow-up"}


def test_labels_from_a_file_are_audited_without_a_definition(engine, store, clean):
    def later_code(rows):
        rows[0]["codes"][-1] = "ICD9_99"

    assert failures(engine, store, clean, None) == {}
    assert "no-future-events" in failures(engine, store, changed(clean, later_code), None)


def test_a_cohort_with_a_leak_is_refused(engine, store, clean):
    def moved(rows):
        rows[0]["split"] = next(split for split in ("train", "test") if split != rows[0]["split"])

    source = Source.read(engine, store, read_events(engine, store), RollUp.NONE)
    table = engine.load(changed(clean, moved))
    findings = audit(AuditedCohort(engine, table, source, Definition.from_dict(WITH_FOLLOW_UP)))
    with raises_user_error("leakage-audit-failed", "FAIL splits-as-in-preprocessing", "1 violation"):
        refuse_leaks(findings)


def test_checks_have_unique_documented_ids():
    ids = [check.id for check in (*COHORT_CHECKS, *TASK_CHECKS)]
    assert len(set(ids)) == len(ids)
    documentation = (Path(__file__).parents[2] / "docs" / "cohorts.md").read_text()
    assert [check for check in ids if f"| `{check}` |" not in documentation] == []


@pytest.mark.spark
@pytest.mark.slow
def test_both_engines_find_the_same(engine, spark, store, several):
    def leaks(rows):
        rows[0]["codes"][-1] = "ICD9_2"
        rows[1]["split"] = next(split for split in ("train", "test") if split != rows[1]["split"])
        for task in ("failure", "long", "days", "next"):
            row = next(row for row in rows if row[task] is not None)
            row[task] = another(row[task])
        next(row for row in rows if row["again"] is not None)["again"].pop()

    table = changed(several, leaks)
    violations = failures(engine, store, table, SEVERAL)
    assert len(violations) == 9
    assert failures(spark, store, table, SEVERAL) == violations
