"""Leaks planted in cohorts that have none."""

from datetime import timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ehr_bert.codes import RollUp
from ehr_bert.cohorts.audit import audit, refuse_leaks
from ehr_bert.cohorts.definition import Definition
from ehr_bert.cohorts.folder import write_cohort_folder
from ehr_bert.cohorts.source import Source
from ehr_bert.engines import DuckDBEngine
from ehr_bert.errors import UserError
from ehr_bert.schemas import ContextKind
from ehr_bert.sources import read_diagnoses
from tests.cohorts.reference import write_extracted
from tests.cohorts.test_building import DEFINITIONS, some_patients
from tests.sequences.messy import messy_rows

NAMES = {
    "later": "histories hold nothing from after the index date",
    "sides": "no patient is in two splits",
    "kept": "splits are those of preprocessing with this seed",
    "outcome": "no history holds a code of the outcome label",
    "watched": "label: who hasn't the outcome was watched for 200 days",
    "label": "{}: labels are what the record tells of the days after the index date",
    "back": "label: who hasn't the outcome came back",
}
SEVERAL = DEFINITIONS["several tasks"]
WITH_FOLLOW_UP = DEFINITIONS["first code, follow-up"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit") / "store"
    return write_extracted(folder, messy_rows(80, seed=71), some_patients(75))


@pytest.fixture(scope="module")
def clean(store, tmp_path_factory):
    """The rows of a cohort without leaks."""
    out = tmp_path_factory.mktemp("audit") / "cohort"
    with DuckDBEngine(out.parent) as engine:
        write_cohort_folder(engine, store, out, Definition.from_dict(WITH_FOLLOW_UP))
    return pq.read_table(out / "cohort")


def failures(engine, store, table, values=WITH_FOLLOW_UP, roll_up=RollUp.NONE, seed=0):
    """What the audit finds wrong, by name."""
    source = Source.of(engine, store, read_diagnoses(engine, store), roll_up)
    definition = None if values is None else Definition.from_dict(values)
    found = audit(source, engine.load(table), definition, seed)
    return {finding.check: finding.detail for finding in found if not finding.ok}


def changed(table, change):
    """A table with its rows changed in place, as dicts."""
    rows = table.to_pylist()
    change(rows)
    return pa.Table.from_pylist(rows, schema=table.schema)


@pytest.mark.parametrize("name", ["several tasks", "before the outcome"])
def test_a_clean_cohort_passes(engine, store, tmp_path, name):
    write_cohort_folder(engine, store, tmp_path / "out", Definition.from_dict(DEFINITIONS[name]), seed=4)
    table = pq.read_table(tmp_path / "out" / "cohort")
    assert failures(engine, store, table, DEFINITIONS[name], seed=4) == {}


def test_tokens_and_rolled_up_codes_are_no_leaks(engine, store, tmp_path):
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

    found = failures(engine, store, changed(clean, later_visit))
    assert found == {NAMES["later"]: "3 hold what wasn't recorded by then"}


def test_a_stay_that_ends_after_the_index_date_is_found(engine, store, clean):
    def longer_stay(rows):
        rows[0]["los_days"][-1] += 1

    assert NAMES["later"] in failures(engine, store, changed(clean, longer_stay))


def test_a_code_of_another_day_under_an_early_visit_is_found(engine, store, clean):
    def later_code(rows):
        rows[5]["codes"][-1] = "ICD9_99"

    found = failures(engine, store, changed(clean, later_code))
    assert found == {NAMES["later"]: "1 hold what wasn't recorded by then"}


def test_the_days_until_the_next_visit_are_a_leak(engine, store, clean):
    def days_told(rows):
        rows[1]["days_to_next"][-1] = 40

    assert NAMES["later"] in failures(engine, store, changed(clean, days_told))


def test_a_code_of_the_outcome_in_a_history_is_found(engine, store, clean):
    def outcome_code(rows):
        control = next(row for row in rows if row["label"] == 0)
        control["codes"][0] = "ICD9_2"

    found = failures(engine, store, changed(clean, outcome_code))
    assert found[NAMES["outcome"]] == "1 do, 1 of them without the outcome"


def test_an_outcome_that_the_record_knows_and_the_history_hides_is_found(engine, store, clean):
    later_outcome = {**WITH_FOLLOW_UP, "outcomes": [{"codes": ["ICD9_1", "ICD9_1?"], "follow_up_days": 200}]}
    found = failures(engine, store, clean, later_outcome)
    assert found[NAMES["outcome"]].startswith(f"{len(clean)} do")


@pytest.mark.parametrize("value", [0, 1])
def test_an_outcome_that_does_not_come_and_one_that_does_are_found(engine, store, clean, value):
    def other_label(rows):
        next(row for row in rows if row["label"] == value)["label"] = 1 - value

    found = failures(engine, store, changed(clean, other_label))
    assert found[NAMES["label"].format("label")] == "1 aren't"


@pytest.fixture(scope="module")
def several(store, tmp_path_factory):
    """The rows of a cohort without leaks, of tasks of all kinds."""
    out = tmp_path_factory.mktemp("audit") / "several"
    with DuckDBEngine(out.parent) as engine:
        write_cohort_folder(engine, store, out, Definition.from_dict(SEVERAL))
    return pq.read_table(out / "cohort")


def another(label):
    """A label that isn't this one, of the same kind."""
    if isinstance(label, list) and label and label[-1] in (0, 1):
        return [*label[:-1], 1 - label[-1]]
    if isinstance(label, list):
        return label[1:] if label else ["ICD9_19"]
    return label + 1 if isinstance(label, float) else 1 - label


@pytest.mark.parametrize("task", ["failure", "again", "long", "days", "next"])
def test_a_label_that_the_record_tells_otherwise_is_found(engine, store, several, task):
    def other_label(rows):
        row = next(row for row in rows if row[task] is not None and row[task][-1:] != [None])
        row[task] = another(row[task])

    def of_numbers(rows):
        row = next(row for row in rows if row[task] is not None)
        row[task] = another(row[task])

    is_list = task in ("again", "next")
    found = failures(engine, store, changed(several, other_label if is_list else of_numbers), SEVERAL)
    assert found[NAMES["label"].format(task)] == "1 aren't"


def test_labels_of_a_stay_that_is_open_or_never_comes_are_found(engine, store, several):
    def made_up(rows):
        for row in rows:
            row["days"] = 3.0 if row["days"] is None else row["days"]

    count = several["days"].null_count
    found = failures(engine, store, changed(several, made_up), SEVERAL)
    assert count > 0
    assert found[NAMES["label"].format("days")] == f"{count} aren't"


def test_too_few_labels_of_visits_are_found(engine, store, several):
    def shorter(rows):
        next(row for row in rows if row["again"] is not None)["again"].pop()

    found = failures(engine, store, changed(several, shorter), None)
    assert found == {"again: a label for each visit of the history": "1 have more or fewer"}


def test_a_patient_on_two_sides_is_found(engine, store, clean):
    def two_sides(rows):
        other = {"train": "test", "valid": "test", "test": "train"}[rows[0]["split"]]
        rows.append(rows[0] | {"index_date": rows[0]["index_date"] + timedelta(1), "split": other})

    found = failures(engine, store, changed(clean, two_sides))
    assert found[NAMES["sides"]] == "1 patients are"
    assert NAMES["kept"] in found


def test_a_patient_on_another_side_than_in_pretraining_is_found(engine, store, clean):
    def moved(rows):
        for row in rows:
            row["split"] = "test"

    found = failures(engine, store, changed(clean, moved))
    assert found.keys() == {NAMES["kept"]}


def test_a_control_who_was_not_watched_long_enough_is_found(engine, store, tmp_path):
    short = {**WITH_FOLLOW_UP, "outcomes": [WITH_FOLLOW_UP["outcomes"][0] | {"follow_up_days": 60}]}
    write_cohort_folder(engine, store, tmp_path / "out", Definition.from_dict(short))
    found = failures(engine, store, pq.read_table(tmp_path / "out" / "cohort"))
    assert NAMES["watched"] in found


def test_a_control_who_never_came_back_is_found(engine, store, tmp_path):
    stays_away = {**WITH_FOLLOW_UP, "outcomes": [{"codes": ["ICD9_2"], "min_later_visits": 0}]}
    comes_back = {**WITH_FOLLOW_UP, "outcomes": [{"codes": ["ICD9_2"], "min_later_visits": 2}]}
    write_cohort_folder(engine, store, tmp_path / "out", Definition.from_dict(stays_away))
    table = pq.read_table(tmp_path / "out" / "cohort")
    assert failures(engine, store, table, stays_away) == {}
    assert failures(engine, store, table, comes_back).keys() == {NAMES["back"]}


def test_labels_from_elsewhere_are_looked_at_without_a_definition(engine, store, clean):
    def later_code(rows):
        rows[0]["codes"][-1] = "ICD9_99"

    assert failures(engine, store, clean, None) == {}
    assert NAMES["later"] in failures(engine, store, changed(clean, later_code), None)


def test_a_cohort_with_a_leak_is_refused_without_naming_anyone(engine, store, clean):
    def moved(rows):
        rows[0]["split"] = next(side for side in ("train", "test") if side != rows[0]["split"])

    source = Source.of(engine, store, read_diagnoses(engine, store), RollUp.NONE)
    table = engine.load(changed(clean, moved))
    with pytest.raises(UserError, match=r"audit fails.*splits are those.*1 patients are on another"):
        refuse_leaks(audit(source, table, Definition.from_dict(WITH_FOLLOW_UP), 0))


@pytest.mark.spark
@pytest.mark.slow
def test_both_engines_find_the_same(engine, spark, store, several):
    def leaks(rows):
        rows[0]["codes"][-1] = "ICD9_2"
        rows[1]["split"] = next(side for side in ("train", "test") if side != rows[1]["split"])
        for task in ("failure", "long", "days", "next"):
            row = next(row for row in rows if row[task] is not None)
            row[task] = another(row[task])
        next(row for row in rows if row["again"] is not None)["again"].pop()

    table = changed(several, leaks)
    found = failures(engine, store, table, SEVERAL)
    assert len(found) == 9
    assert failures(spark, store, table, SEVERAL) == found
