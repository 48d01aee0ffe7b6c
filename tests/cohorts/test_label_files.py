from datetime import date, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ehr_bert.cohorts.cohort import read_cohort
from ehr_bert.cohorts.folder import RISK_FILE, write_cohort_folder
from ehr_bert.cohorts.label_files import read_labels
from ehr_bert.schemas import TaskKind
from tests.cohorts.reference import write_extracted
from tests.sequences.messy import messy_rows
from tests.sequences.reference import reference_patient
from tests.user_errors import raises_user_error

DAY = datetime(2015, 3, 1, 10, 30)


def meds(path, **values):
    """Write a MEDS label file with two subjects."""
    keys = {"subject_id": pa.array([7, 8]), "prediction_time": pa.array([DAY, DAY], pa.timestamp("us"))}
    pq.write_table(pa.table(keys | values), path)
    return path


def test_a_tsv_table(tmp_path):
    path = tmp_path / "labels.tsv"
    path.write_text(
        "patient_id\tindex_date\tlabel\tcost\trisk\n007\t2015-03-01\t1\t2.5\t0.25\n8\t2015-03-01\t\t\t\n"
    )
    table = read_labels(path)
    assert table.to_pylist() == [
        {"patient_id": "007", "index_date": date(2015, 3, 1), "label": 1, "cost": 2.5, "risk": 0.25},
        {"patient_id": "8", "index_date": date(2015, 3, 1), "label": None, "cost": None, "risk": None},
    ]
    assert table.schema.field("label").type == pa.int32()
    assert table.schema.field("cost").type == pa.float64()


@pytest.mark.parametrize(
    ("column", "values", "expected", "type_"),
    [
        ("boolean_value", pa.array([True, None]), [1, None], pa.int32()),
        ("integer_value", pa.array([0, 1]), [0, 1], pa.int32()),
        ("integer_value", pa.array([3, 1]), [3.0, 1.0], pa.float64()),
        ("float_value", pa.array([0.5, None]), [0.5, None], pa.float64()),
        ("categorical_value", pa.array(["ICU", None]), [["ICU"], None], pa.list_(pa.string())),
        ("categorical_value", pa.array([None, "ICU"]), [None, ["ICU"]], pa.list_(pa.string())),
    ],
)
def test_meds_values_are_the_label(tmp_path, column, values, expected, type_):
    nothing = pa.nulls(2, pa.float32() if column != "float_value" else pa.bool_())
    other = "float_value" if column != "float_value" else "boolean_value"
    table = read_labels(meds(tmp_path / "labels.parquet", **{column: values, other: nothing}))
    assert table.column_names == ["patient_id", "index_date", "label"]
    assert table["patient_id"].to_pylist() == ["7", "8"]
    assert table["index_date"].to_pylist() == [DAY.date()] * 2
    assert table["label"].to_pylist() == expected
    assert table["label"].type == type_


def test_meds_values_of_two_types_are_refused(tmp_path):
    path = meds(tmp_path / "labels.parquet", boolean_value=[True, None], float_value=[None, 1.0])
    with raises_user_error("several-meds-values", "boolean_value, float_value"):
        read_labels(path)


@pytest.mark.parametrize(
    ("key", "mentioned", "text"),
    [
        ("missing-column", "index_date", "patient_id\tlabel\n1\t1\n"),
        ("missing-labels", "", "patient_id\tindex_date\n1\t2015-03-01\n"),
        ("invalid-date", "index_date", "patient_id\tindex_date\tlabel\n1\tsoon\t1\n"),
        ("column-type", "string", "patient_id\tindex_date\tlabel\n1\t2015-03-01\tyes\n"),
        ("reserved-name", "'sex'", "patient_id\tindex_date\tsex\n1\t2015-03-01\t1\n"),
        ("reserved-name", "'Age'", "patient_id\tindex_date\tAge\n1\t2015-03-01\t1\n"),
        ("duplicate-column", "label", "patient_id\tindex_date\tlabel\tLabel\n1\t2015-03-01\t1\t1\n"),
        ("column-type", "risk", "patient_id\tindex_date\tlabel\trisk\n1\t2015-03-01\t1\thigh\n"),
        ("not-finite", "label", "patient_id\tindex_date\tlabel\n1\t2015-03-01\tinf\n"),
        ("missing-value", "index_date", "patient_id\tindex_date\tlabel\n1\t\t1\n2\t2015-03-01\t1\n"),
        ("duplicate-rows", "2 rows", "patient_id\tindex_date\tlabel\n" + "1\t2015-03-01\t1\n" * 3),
        ("unreadable-file", "", "patient_id\tindex_date\tlabel\n1\t2\n"),
    ],
)
def test_an_unsuitable_table_is_refused(tmp_path, key, mentioned, text):
    path = tmp_path / "labels.tsv"
    path.write_text(text)
    with raises_user_error(key, path, mentioned):
        read_labels(path)


def test_nan_is_a_missing_label(tmp_path):
    table = read_labels(meds(tmp_path / "labels.parquet", float_value=pa.array([float("nan"), 1.0])))
    assert table["label"].to_pylist() == [None, 1]
    assert table.schema.field("label").type == pa.int32()


def test_lists_of_labels_must_have_one_label_per_visit(engine, tmp_path):
    folder = write_extracted(tmp_path / "store", messy_rows(8, seed=4))
    keys = {"patient_id": ["1", "2"], "index_date": [date(2020, 1, 1)] * 2}
    pq.write_table(
        pa.table(keys | {"label": pa.array([[1], None], pa.list_(pa.int32()))}), tmp_path / "l.parquet"
    )
    with raises_user_error("leakage-audit-failed", "one-label-per-visit", "1 violation"):
        write_cohort_folder(engine, folder, tmp_path / "out", tmp_path / "l.parquet")
    assert not (tmp_path / "out").exists()


def test_labels_of_unknown_patients_are_refused(engine, tmp_path):
    folder = write_extracted(tmp_path / "store", messy_rows(8, seed=4))
    path = tmp_path / "labels.tsv"
    path.write_text("patient_id\tindex_date\tlabel\n001\t2020-01-01\t1\n")
    with raises_user_error("empty-cohort", "patient in the diagnosis table: 0"):
        write_cohort_folder(engine, folder, tmp_path / "out", path)


@pytest.mark.parametrize("name", ["passed", "last_discharge", "example", "person", "names", "code_ranks"])
def test_a_task_may_have_the_name_of_an_intermediate_column(engine, tmp_path, name):
    folder = write_extracted(tmp_path / "store", messy_rows(8, seed=4))
    path = tmp_path / "labels.tsv"
    for task in ("label", name):
        path.write_text(f"patient_id\tindex_date\t{task}\n1\t2020-01-01\t1\n2\t2020-01-01\t0\n")
        write_cohort_folder(engine, folder, tmp_path / task, path)
    plain, renamed = (pq.read_table(tmp_path / task / "cohort") for task in ("label", name))
    assert renamed.rename_columns(plain.column_names) == plain


def test_a_cohort_from_labels(engine, tmp_path):
    rows = messy_rows(30, seed=4)
    folder = write_extracted(tmp_path / "store", rows)
    days = [date(2014, 1, 1), date(2015, 1, 1), date(2016, 6, 1)]
    keys = [(patient, day) for patient in ["stranger", *map(str, range(30))] for day in days]
    path = tmp_path / "labels.csv"
    lines = [
        f"{patient},{day},{'' if place % 7 == 0 else place % 2},{place / 1000}"
        for place, (patient, day) in enumerate(keys)
    ]
    path.write_text("\n".join(["patient_id,index_date,died,risk", *lines, ""]))
    summary = write_cohort_folder(engine, folder, tmp_path / "out", path)

    first = rows.groupby("patient_id")["discharge_date"].min()
    expected = sorted(
        (patient, day, place % 2, place / 1000)
        for place, (patient, day) in enumerate(keys)
        if patient in first and first[patient] <= day and place % 7
    )
    examples = pq.read_table(tmp_path / "out" / "cohort").to_pylist()
    assert [(row["patient_id"], row["index_date"], row["died"]) for row in examples] == [
        key_and_label[:3] for key_and_label in expected
    ]
    risks = pq.read_table(tmp_path / "out" / RISK_FILE)
    assert risks.to_pydict() == {"risk": [risk for *_, risk in expected]}
    steps = {step["rule"]: step["rows"] for step in summary["flow"]}
    assert list(steps) == [
        "rows of the label table",
        "patient in the diagnosis table",
        "at least 1 visit of history",
        "at least one label",
    ]
    assert steps["rows of the label table"] == 93
    assert steps["patient in the diagnosis table"] == 3 * rows["patient_id"].nunique()
    assert steps["at least one label"] == len(expected) < steps["at least 1 visit of history"]
    for row in examples[::7]:
        own = rows[(rows["patient_id"] == row["patient_id"]) & (rows["discharge_date"] <= row["index_date"])]
        past = reference_patient(own)
        assert {name: row[name] for name in past} == past
    cohort = read_cohort(tmp_path / "out")
    assert cohort.kind("died") == TaskKind.BINARY
    assert cohort.facts["definition"] == {"labels": "labels.csv"}
