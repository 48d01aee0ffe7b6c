"""Cohorts of messy tables, compared with a plain implementation.

Covers the modules that build a cohort together.
"""

# Covers: ehr_bert.cohorts.folder, ehr_bert.cohorts.histories, ehr_bert.cohorts.index_dates
# Covers: ehr_bert.cohorts.matching, ehr_bert.cohorts.outcomes, ehr_bert.cohorts.record
# Covers: ehr_bert.cohorts.rules, ehr_bert.cohorts.source

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ehr_bert.codes import RollUp
from ehr_bert.cohorts import record
from ehr_bert.cohorts.cohort import read_cohort
from ehr_bert.cohorts.definition import Definition
from ehr_bert.cohorts.folder import write_cohort_folder
from ehr_bert.files import SUMMARY_FILE
from ehr_bert.schemas import DIAGNOSES, OBSERVATION, PATIENTS, ContextKind, TaskKind
from ehr_bert.sequences.folder import write_sequences_folder
from tests.cohorts.reference import reference_labels, visits_of, write_extracted
from tests.sequences.messy import messy_rows
from tests.sequences.reference import reference_patient
from tests.user_errors import raises_user_error

DIABETES, FAILURE, CANCER = ("ICD9_1", "ICD9_1?"), ("ICD9_2",), ("ICD9_3", "ICD9_4")
OUTCOME = {"codes": FAILURE}

DEFINITIONS = {
    "first code, follow-up": {
        "population": {"codes": DIABETES},
        "outcomes": [{"codes": FAILURE, "follow_up_days": 200, "gap_days": 45}],
    },
    "population of two visits in time": {
        "population": {"codes": DIABETES, "visits": 3, "within_days": 120},
        "outcomes": [OUTCOME],
        "history": {"min_days": 100},
    },
    "index date by other codes": {
        "index": {"codes": CANCER},
        "population": {"codes": DIABETES},
        "outcomes": [OUTCOME | {"washout_days": 100}],
    },
    "second stay": {
        "index": {"kind": "nth_visit", "visit": 2, "min_stay_days": 10},
        "outcomes": [OUTCOME | {"min_later_visits": 2}],
        "history": {"min_visits": 3},
    },
    "a date, aged": {
        "index": {"kind": "date", "date": "2015-03-01"},
        "history": {"min_age": 40, "max_age": 70},
        "outcomes": [OUTCOME | {"follow_up_days": 365}],
        "observed_until": "2016-12-31",
    },
    "each discharge, readmission": {
        "index": {"kind": "each_discharge", "min_stay_days": 1},
        "outcomes": [{"kind": "readmission", "follow_up_days": 30, "min_stay_days": 5}],
    },
    "before the outcome": {
        "population": {"codes": DIABETES},
        "index": {"kind": "before_outcome"},
        "exclude": [{"codes": FAILURE, "when": "until_population", "margin_days": 60}],
        "outcomes": [OUTCOME | {"gap_days": 30, "visits": 2}],
    },
    "exclusions": {
        "index": {"kind": "nth_visit", "visit": 4},
        "exclude": [{"codes": ["ICD9_5"], "when": "ever"}, {"codes": CANCER, "washout_days": 60}],
        "outcomes": [OUTCOME],
    },
    "several tasks": {
        "index": {"kind": "each_discharge"},
        "outcomes": [
            {"name": "failure", "codes": FAILURE, "follow_up_days": 90},
            {"name": "again", "kind": "readmission", "follow_up_days": 30, "each_visit": True},
            {"name": "long", "kind": "prolonged_stay", "threshold_days": 20, "follow_up_days": 60},
            {"name": "days", "kind": "stay_days"},
            {"name": "next", "kind": "next_visit_codes", "codes": ["ICD9_1?"]},
        ],
    },
    "long stays next, at each visit": {
        "index": {"kind": "nth_visit", "visit": 5},
        "outcomes": [{"kind": "prolonged_stay", "each_visit": True}],
    },
}


def some_patients(count):
    """Return `PATIENTS` as dicts, each value known or unknown."""
    generator = np.random.default_rng(5)

    def some(day, spread, share):
        return day + timedelta(int(generator.integers(spread))) if generator.random() < share else None

    people = [
        {
            "patient_id": str(patient),
            "sex": [None, "F", "M"][patient % 3],
            "birth_date": some(date(1930, 1, 1), 20_000, 0.8),
            "death_date": some(date(2015, 1, 1), 900, 0.3),
            "observation_end": some(date(2015, 6, 1), 700, 0.5),
            "observation_start": some(date(2010, 1, 1), 900, 0.7),
        }
        for patient in range(count)
    ]
    for number, facts in enumerate(people):
        facts["observation_end_reason"] = "enrolment" if facts["observation_end"] and number % 2 else None
    return people


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return a messy table as an extracted folder, its rows and its patients."""
    rows, patients = messy_rows(80, seed=71), some_patients(75)
    return write_extracted(tmp_path_factory.mktemp("data") / "store", rows, patients), rows, patients


def build(engine, folder, out, values, **options):
    summary = write_cohort_folder(engine, folder, out, Definition.from_dict(values), **options)
    return summary, pq.read_table(out / "cohort").to_pylist()


@pytest.mark.parametrize("name", DEFINITIONS)
def test_examples_equal_the_reference(engine, tmp_path, data, name):
    folder, rows, patients = data
    definition = Definition.from_dict(DEFINITIONS[name])
    summary, examples = build(engine, folder, tmp_path / "out", DEFINITIONS[name])
    names = [outcome.name for outcome in definition.outcomes]
    labels = {(row["patient_id"], row["index_date"]): {task: row[task] for task in names} for row in examples}
    assert labels == reference_labels(rows, definition, patients)
    assert len(labels) == len(examples) > 2
    assert [(row["patient_id"], row["index_date"]) for row in examples] == sorted(labels)
    assert summary["flow"][-1]["rows"] == len(examples) or len(names) > 1
    assert read_cohort(tmp_path / "out").kind(names[0]) == definition.outcomes[0].task_kind


def test_labels_of_visits_keep_their_order_before_1970(engine, tmp_path):
    rows = messy_rows(40, seed=8)
    for name in ("admit_date", "discharge_date"):
        rows[name] = [day.replace(year=day.year - 46, day=min(day.day, 28)) for day in rows[name]]
    rows = rows[rows["admit_date"] <= rows["discharge_date"]]
    values = DEFINITIONS["long stays next, at each visit"]
    _, examples = build(engine, write_extracted(tmp_path / "store", rows), tmp_path / "out", values)
    labels = {(row["patient_id"], row["index_date"]): {"label": row["label"]} for row in examples}
    assert labels == reference_labels(rows, Definition.from_dict(values))
    assert len({tuple(row["label"]) for row in examples}) > 3


def test_histories_equal_those_of_preprocessing(engine, tmp_path, data):
    folder, rows, _ = data
    _, examples = build(engine, folder, tmp_path / "out", DEFINITIONS["several tasks"])
    for row in examples[::5]:
        own = rows[(rows["patient_id"] == row["patient_id"]) & (rows["discharge_date"] <= row["index_date"])]
        past = reference_patient(own)
        assert {name: row[name] for name in past} == past


@pytest.mark.parametrize("name", ["each discharge, readmission", "a date, aged"])
def test_observation_and_death_are_those_of_the_patient_table(engine, tmp_path, data, name):
    folder, _, patients = data
    known = {patient["patient_id"]: patient for patient in patients}
    _, examples = build(engine, folder, tmp_path / "out", DEFINITIONS[name])
    unknown = dict.fromkeys(OBSERVATION.names)
    for row in examples:
        facts = known.get(row["patient_id"], unknown)
        assert {column: row[column] for column in unknown} == {column: facts[column] for column in unknown}
    assert len({row["observation_end"] is None for row in examples}) == 2
    assert any(row["death_date"] for row in examples)


def test_observation_and_death_are_null_without_a_patient_table(engine, tmp_path, data):
    _, examples = build(
        engine, data[0] / "diagnoses", tmp_path / "out", DEFINITIONS["each discharge, readmission"]
    )
    assert not any(row[column] for row in examples for column in OBSERVATION.names)


def test_the_last_discharge_replaces_the_end_only_where_rules_need_one(engine):
    first = date(2015, 1, 1)
    end, death = first + timedelta(90), first + timedelta(300)
    rows = [
        dict.fromkeys(DIAGNOSES.names)
        | {"patient_id": patient, "admit_date": first, "discharge_date": first + timedelta(9), "code": "A"}
        for patient in ("ended", "ended early", "dead", "unknown", "unlisted")
    ]
    people = [
        {"patient_id": "ended", "observation_end": end, "observation_end_reason": "extraction"},
        {"patient_id": "ended early", "observation_end": first},
        {"patient_id": "dead", "observation_end": end, "death_date": death},
        {"patient_id": "unknown"},
    ]
    visits = record.visits_of(engine, engine.load(pa.Table.from_pylist(rows, schema=DIAGNOSES)), {})
    known = engine.load(pa.Table.from_pylist(people, schema=PATIENTS))
    last = first + timedelta(9)
    for stated, until in ((None, [end, end, last, last, last]), (death, [death] * 5)):
        patients = engine.collect(
            record.observed_patients(visits, known, stated).order_by("patient_id")
        ).to_pylist()
        assert [row["patient_id"] for row in patients] == [
            "dead",
            "ended",
            "ended early",
            "unknown",
            "unlisted",
        ]
        assert [row["observation_end"] for row in patients] == [end, end, first, None, None]
        assert [row["death_date"] for row in patients] == [death, None, None, None, None]
        assert [row["observed_until"] for row in patients] == until
    without = engine.collect(record.observed_patients(visits, None, None)).to_pylist()
    assert {(row["observation_end"], row["observed_until"]) for row in without} == {(None, last)}


def test_a_patient_keeps_the_split_of_preprocessing(engine, tmp_path, data):
    folder, _, _ = data
    write_sequences_folder(engine, folder, tmp_path / "sequences", seed=3)
    _, examples = build(engine, folder, tmp_path / "out", DEFINITIONS["exclusions"], seed=3)
    for split in ("train", "valid", "test"):
        pretrained = pq.read_table(tmp_path / "sequences" / "sequences" / split)["patient_id"].to_pylist()
        assert {row["patient_id"] for row in examples if row["split"] == split} <= set(pretrained)


def test_age_and_sex_are_those_at_the_index_date(engine, tmp_path, data):
    folder, _, patients = data
    _, examples = build(engine, folder, tmp_path / "out", DEFINITIONS["several tasks"])
    known = {patient["patient_id"]: patient for patient in patients}
    assert any(row["age"] is None for row in examples)
    for row in examples:
        facts = known.get(row["patient_id"], {"sex": None, "birth_date": None})
        assert row["sex"] == facts["sex"]
        born = facts["birth_date"]
        assert row["age"] == (born and int((row["index_date"] - born).days // 365.2425))


def test_matching_keeps_all_cases_and_matched_controls(engine, tmp_path, data):
    folder, _, _ = data
    values = {"index": {"kind": "each_discharge"}, "outcomes": [OUTCOME | {"follow_up_days": 100}]}
    _, every = build(engine, folder, tmp_path / "all", values)
    matching = {"matching": {"controls": 2, "by": ["sex", "index_year"]}}
    summary, kept = build(engine, folder, tmp_path / "out", values | matching)

    def strata(rows, label):
        counts = {}
        for row in rows:
            if row["label"] == label:
                key = row["split"], row["sex"], row["index_date"].year
                counts[key] = counts.get(key, 0) + 1
        return counts

    assert strata(kept, 1) == strata(every, 1)
    cases, controls = strata(every, 1), strata(every, 0)
    wanted = {key: min(count, 2 * cases.get(key, 0)) for key, count in controls.items()}
    assert strata(kept, 0) == {key: count for key, count in wanted.items() if count}
    assert sum(strata(kept, 0).values()) < sum(controls.values())
    assert summary["flow"][-1] == {
        "rule": "at most 2 controls per case",
        "patients": len({row["patient_id"] for row in kept}),
        "rows": len(kept),
    }


@pytest.mark.parametrize("name", ["cases", "position", "by_sex", "person"])
def test_a_task_may_have_the_name_of_an_intermediate_column(engine, tmp_path, data, name):
    values = {"index": {"kind": "each_discharge"}, "matching": {"controls": 1, "by": ["sex"]}}
    labelled = {"codes": FAILURE, "follow_up_days": 100}
    _, plain = build(engine, data[0], tmp_path / "plain", values | {"outcomes": [labelled]})
    _, examples = build(engine, data[0], tmp_path / "out", values | {"outcomes": [labelled | {"name": name}]})
    assert [row | {"label": row[name]} for row in examples] == [row | {name: row["label"]} for row in plain]


def test_max_per_patient_limits_index_dates(engine, tmp_path, data):
    values = {"outcomes": [{"kind": "readmission", "follow_up_days": 1}], "observed_until": "2030-01-01"}
    index = {"kind": "each_discharge"}
    folder = write_extracted(tmp_path / "store", data[1])
    _, every = build(engine, folder, tmp_path / "all", values | {"index": index})
    limited = values | {"index": index | {"max_per_patient": 3}}
    summary, some = build(engine, folder, tmp_path / "some", limited)
    counts = [len(visits) for visits in visits_of(data[1]).values()]
    assert summary["flow"][1]["rows"] == sum(min(count, 3) for count in counts) < sum(counts)
    assert all(row in every for row in some)
    assert len({row["index_date"] for row in some}) > 10


def test_a_stay_inside_the_next_one_is_not_the_next(engine, tmp_path):
    days = {
        "inside": [(0, 2), (10, 40), (20, 22)],  # discharged first, and begun later
        "open": [(0, 2), (1, 40), (20, 22)],
        "after": [(0, 2), (20, 22), (30, 60)],
    }
    first = date(2015, 1, 1)
    rows = [
        dict.fromkeys(DIAGNOSES.names)
        | {
            "patient_id": patient,
            "admit_date": first + timedelta(begin),
            "discharge_date": first + timedelta(end),
            "code": f"ICD9_{end}",
        }
        for patient, stays in days.items()
        for begin, end in stays
    ]
    outcomes = [
        {"name": "again", "kind": "readmission", "follow_up_days": 15},
        {"name": "days", "kind": "stay_days"},
        {"name": "next", "kind": "next_visit_codes"},
    ]
    folder = write_extracted(tmp_path / "store", pd.DataFrame(rows))
    values = {"index": {"kind": "nth_visit"}, "outcomes": outcomes}
    _, examples = build(engine, folder, tmp_path / "out", values)
    assert {row["patient_id"]: (row["again"], row["days"], row["next"]) for row in examples} == {
        "inside": (1, 30, ["ICD9_40"]),
        "after": (0, 2, ["ICD9_22"]),
    }


@pytest.mark.parametrize("out", ["store", "."])
def test_inputs_are_not_replaced(engine, tmp_path, out):
    folder = write_extracted(tmp_path / "store", messy_rows(5, seed=1))
    for parent in (folder, tmp_path):
        (parent / SUMMARY_FILE).write_text("{}")
    with raises_user_error("output-contains-input"):
        build(engine, folder, tmp_path / out, {"index": {"kind": "nth_visit"}, "outcomes": [OUTCOME]})
    assert (folder / "patients.parquet").exists()


def test_codes_are_rolled_up_in_histories_and_labels_but_not_in_rules(engine, tmp_path):
    rows = messy_rows(40, seed=9)
    rows["code"] = ["ICD9_428.0" if code < "ICD9_2" else "ICD9_250.01" for code in rows["code"]]
    values = {
        "index": {"kind": "nth_visit", "visit": 2},
        "outcomes": [
            {"name": "failure", "codes": ["ICD9_428.0"]},
            {"name": "next", "kind": "next_visit_codes", "codes": ["ICD9_428.0"]},
        ],
    }
    folder = write_extracted(tmp_path / "store", rows)
    _, plain = build(engine, folder, tmp_path / "plain", values)
    _, rolled = build(engine, folder, tmp_path / "out", values, roll_up=RollUp.CATEGORY)
    assert [row["failure"] for row in rolled] == [row["failure"] for row in plain]
    assert {code for row in rolled for code in row["codes"]} == {"ICD9_428", "ICD9_250"}
    assert {code for row in rolled for code in row["next"] or []} == {"ICD9_428"}


def test_context_tokens_are_where_preprocessing_puts_them(engine, tmp_path, data):
    folder, _, _ = data
    _, plain = build(engine, folder, tmp_path / "plain", DEFINITIONS["exclusions"])
    _, examples = build(
        engine, folder, tmp_path / "out", DEFINITIONS["exclusions"], kinds=frozenset(ContextKind)
    )
    for row, bare in zip(examples, plain, strict=True):
        own = [code for code in row["codes"] if code.startswith("ICD9")]
        assert own == bare["codes"]
        assert row["sex"] is None or row["codes"][0] == f"SEX_{row['sex']}"
        assert sum(code.startswith("GAP_") for code in row["codes"]) == len(row["admit_date"]) - 1


def test_the_cohort_flow_counts_what_remains_after_each_rule(engine, tmp_path, data):
    folder, rows, _ = data
    summary, examples = build(engine, folder, tmp_path / "out", DEFINITIONS["exclusions"])
    flow = summary["flow"]
    assert flow[0]["patients"] == rows["patient_id"].nunique()
    assert [step["patients"] for step in flow] == sorted((step["patients"] for step in flow), reverse=True)
    assert [step["rule"] for step in flow[1:]] == [
        "with an index date (nth_visit)",
        "alive",
        "at least 1 visit of history",
        "no ICD9_5 at any time",
        "no ICD9_3, ICD9_4 in the 60 days up to the index date",
        "no outcome up to the index date",
        "case, or control with 1 later visit",
    ]
    counts = summary["splits"].values()
    assert sum(count["examples"] for count in counts) == len(examples)
    assert sum(count["positives"]["label"] for count in counts) == sum(row["label"] for row in examples)


def test_codes_that_match_nothing_are_refused(engine, tmp_path, data):
    values = {"index": {"codes": ["ICD9_2"]}, "outcomes": [{"codes": ["ICD10_I50*"]}]}
    with raises_user_error("unknown-codes", "ICD10_I50*", "ICD9_0"):
        build(engine, data[0], tmp_path / "out", values)
    assert not (tmp_path / "out").exists()


def test_an_empty_cohort_is_refused_with_its_flow(engine, tmp_path, data):
    values = {"index": {"kind": "nth_visit", "visit": 300}, "outcomes": [OUTCOME]}
    with raises_user_error("empty-cohort", "patients: 80; with an index date"):
        build(engine, data[0], tmp_path / "out", values)


def test_age_needs_patients(engine, tmp_path):
    rows = messy_rows(5, seed=1)
    folder = write_extracted(tmp_path / "store", rows) / "diagnoses"
    values = {"index": {"kind": "nth_visit"}, "history": {"min_age": 18}, "outcomes": [OUTCOME]}
    with raises_user_error("missing-patients-table", "history.min_age"):
        build(engine, folder, tmp_path / "out", values)


def test_kinds_of_tasks():
    outcomes = Definition.from_dict(DEFINITIONS["several tasks"]).outcomes
    assert [outcome.task_kind for outcome in outcomes] == [
        TaskKind.BINARY,
        TaskKind.VISITS,
        TaskKind.BINARY,
        TaskKind.REGRESSION,
        TaskKind.MULTILABEL,
    ]
