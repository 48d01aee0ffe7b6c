# Covers: ehr_bert.sources.extraction, ehr_bert.sources.summary
import json
import shutil
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ehr_bert.engines import DuckDBEngine
from ehr_bert.schemas import DIAGNOSES, EVENTS, PATIENTS, REJECTED, SPLITS
from ehr_bert.sources import read_events
from ehr_bert.sources.extraction import write_extracted_folder
from ehr_bert.sources.records import ColumnNames, StoreRecords, WithoutVisit, diagnosis_rows
from ehr_bert.sources.summary import extraction_text
from tests.user_errors import raises_user_error

DIAGNOSED = {
    "patient": ["b", "a", "a", "a", None, "a"],
    "admit": ["2020-01-01", "2020-02-01", "2020-02-01", "2020-03-01", "2020-01-01", None],
    "discharge": ["2020-01-10", "2020-02-01", "2020-02-01", "2020-03-02", "2020-01-01", None],
    "date": [None, None, None, None, None, "2020-04-04"],
    "code": ["ICD9_1", "ICD9_1", "ICD9_1", "X", "ICD9_1", "X"],
    "priority": ["x", "1", "1", None, None, None],
}


def records_of(engine: DuckDBEngine, splits: dict[str, str] | None = None, **columns: list) -> StoreRecords:
    raw = engine.load(
        pa.table({name: pa.array(values, pa.string()) for name, values in (DIAGNOSED | columns).items()})
    )
    rows = diagnosis_rows(
        raw,
        record=("code", "priority"),
        patient_id=raw.patient,
        admit_date=raw.admit,
        discharge_date=raw.discharge,
        date=raw.date,
        time=raw.date,
        final_code=raw.code,
        code=raw.code,
        priority=raw.priority,
    )
    split_table = None
    if splits is not None:
        split_table = engine.load(pa.table({"patient_id": list(splits), "split": list(splits.values())}))
    names = ColumnNames("t.code", "t.patient", "t.visit", "t.admit", "t.discharge")
    return StoreRecords(names, rows, splits=split_table)


def test_every_row_is_kept_merged_or_rejected(engine: DuckDBEngine, tmp_path: Path) -> None:
    summary = write_extracted_folder(engine, records_of(engine), "store", tmp_path / "out")
    assert summary == {
        "rows": {
            "read": 6,
            "kept": 3,
            "merged_duplicates": 1,
            "rejected": {"no patient id": 1, "no visit: t.visit": 1},
        },
        "rows_by_kind": {"diagnosis": 3},
        "rows_with_date": 0,
        "rows_with_time": 0,
        "one_day_visits_without_visit": 0,
        "rows_of_nested_visits": 0,
        "unreadable_ordering_values": 1,
        "unreadable_values": {"priority": 1},
        "patients": {"in_store": 2, "with_diagnoses": 2, "conflicting_values": 0},
        "visits": 3,
        "distinct_codes": 2,
        "rows_by_system": {"ICD9": 2, "other": 1},
        "visits_a_patient": dict(zip(QUANTILES, [1, 1, 1, 1, 2, 2, 2], strict=True)),
        "codes_a_patient": dict(zip(QUANTILES, [1, 1, 1, 1, 2, 2, 2], strict=True)),
        "first_admission": "2020-01-01",
        "last_discharge": "2020-03-02",
        "prolonged_stays": 1,
    }
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == {"stage": "extract", **summary}
    text = extraction_text(summary)
    assert "no visit: t.visit" in text
    assert "unreadable priority" in text


QUANTILES = ("min", "5%", "25%", "median", "75%", "95%", "max")


def test_the_folder_contains_sorted_tables_of_the_schemas(engine: DuckDBEngine, tmp_path: Path) -> None:
    write_extracted_folder(engine, records_of(engine, {"b": "train", "a": "test"}), "store", tmp_path / "out")
    tables = {
        path.relative_to(tmp_path / "out").as_posix(): pq.read_table(path)
        for path in (tmp_path / "out").rglob("*.parquet")
    }
    assert sorted(tables) == [
        "events/00000.parquet",
        "patients.parquet",
        "rejected.parquet",
        "splits.parquet",
    ]
    events = tables["events/00000.parquet"]
    assert events.schema.names == EVENTS.names
    assert events.schema.types == EVENTS.types
    columns = ("patient_id", "admit_date", "discharge_date", "kind", "code", "priority")
    assert [tuple(row[name] for name in columns) for row in events.to_pylist()] == [
        ("a", date(2020, 2, 1), date(2020, 2, 1), "diagnosis", "ICD9_1", 1),
        ("a", date(2020, 3, 1), date(2020, 3, 2), "diagnosis", "X", None),
        ("b", date(2020, 1, 1), date(2020, 1, 10), "diagnosis", "ICD9_1", None),
    ]
    assert tables["patients.parquet"].schema == PATIENTS
    assert tables["patients.parquet"]["patient_id"].to_pylist() == ["a", "b"]
    assert tables["splits.parquet"].schema == SPLITS
    assert tables["splits.parquet"].to_pydict() == {"patient_id": ["a", "b"], "split": ["test", "train"]}
    assert tables["rejected.parquet"].schema == REJECTED
    assert tables["rejected.parquet"]["row"][1].as_py().split("\t")[0] == "patient=a"


def test_a_rerun_gives_the_same_bytes(engine: DuckDBEngine, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_extracted_folder(engine, records_of(engine), "store", tmp_path / name)
    for path in (tmp_path / "one").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_a_diagnosis_kept_without_a_visit_is_counted(engine: DuckDBEngine, tmp_path: Path) -> None:
    summary = write_extracted_folder(
        engine, records_of(engine), "store", tmp_path / "out", without_visit=WithoutVisit.KEEP
    )
    assert summary["one_day_visits_without_visit"] == 1
    assert summary["rows"]["rejected"] == {"no patient id": 1}


def test_an_extracted_folder_is_a_diagnosis_table(engine: DuckDBEngine, tmp_path: Path) -> None:
    write_extracted_folder(engine, records_of(engine, {"b": "train", "a": "test"}), "store", tmp_path / "out")
    events = read_events(engine, tmp_path / "out")
    assert engine.collect(events.rows.aggregate(rows=ibis._.count()))["rows"].to_pylist() == [3]
    assert set(engine.collect(events.splits)["split"].to_pylist()) == {"train", "test"}
    assert engine.collect(events.patients).num_rows == 2


def test_a_folder_of_version_1_has_diagnoses(engine: DuckDBEngine, tmp_path: Path) -> None:
    write_extracted_folder(engine, records_of(engine), "store", tmp_path / "out")
    written = engine.collect(read_events(engine, tmp_path / "out").rows)
    table = pq.read_table(tmp_path / "out" / "events").select(DIAGNOSES.names)
    shutil.rmtree(tmp_path / "out" / "events")
    (tmp_path / "out" / "diagnoses").mkdir()
    pq.write_table(table, tmp_path / "out" / "diagnoses" / "00000.parquet")
    assert engine.collect(read_events(engine, tmp_path / "out").rows) == written


def test_rows_that_agree_in_all_columns_are_merged(engine: DuckDBEngine, tmp_path: Path) -> None:
    days = ["2020-02-01", "2020-02-01", "2020-02-01 10:30:00.1", "2020-02-01T10:30:00", "soon", None]
    columns = {name: [values[1]] * 6 for name, values in DIAGNOSED.items()} | {"date": days}
    records = records_of(engine, **columns)
    summary = write_extracted_folder(engine, records, "store", tmp_path / "out")
    events = pq.read_table(tmp_path / "out" / "events")
    assert events["date"].to_pylist() == [date(2020, 2, 1), date(2020, 2, 1), None]
    assert events["time"].to_pylist() == [datetime(2020, 2, 1, 10, 30), None, None]
    assert (summary["rows"]["kept"], summary["rows"]["merged_duplicates"]) == (3, 3)
    assert (summary["rows_with_date"], summary["rows_with_time"]) == (2, 1)
    assert summary["unreadable_values"] == {"date": 1, "time": 1}


def test_a_reason_for_the_end_of_observation_is_optional_and_needs_an_end(
    engine: DuckDBEngine, tmp_path: Path
) -> None:
    write_extracted_folder(engine, records_of(engine), "store", tmp_path / "out")
    path = tmp_path / "out" / "patients.parquet"
    stated = pq.read_table(path).to_pydict() | {
        "observation_end": [date(2020, 1, 1), None],
        "observation_end_reason": ["extraction", "extraction"],
    }
    table = pa.table(stated, schema=PATIENTS)
    for written, reasons in [
        (table, ["extraction", None]),
        (table.drop_columns("observation_end_reason"), [None, None]),
    ]:
        pq.write_table(written, path)
        patients = engine.collect(read_events(engine, tmp_path / "out").patients.order_by("patient_id"))
        assert patients.schema.names == PATIENTS.names
        assert patients["observation_end_reason"].to_pylist() == reasons


def test_an_unknown_reason_of_a_store_is_refused(engine: DuckDBEngine, tmp_path: Path) -> None:
    end = {"patient_id": ["a"], "observation_end": ["2020-01-01"], "observation_end_reason": ["left"]}
    patients = engine.load(pa.table(end | {"sex": pa.array([None], pa.string())}))
    with raises_user_error("unknown-observation-end-reason", "store: ", "left"):
        write_extracted_folder(
            engine, replace(records_of(engine), patients=patients), "store", tmp_path / "out"
        )


@pytest.mark.parametrize(
    ("columns", "key", "mentioned"),
    [
        (
            {"patient": [None] * 6},
            "no-usable-diagnosis",
            "all 6 rows of t are rejected, 5 of them for the reason 'no patient id' (first rows: code=",
        ),
        (
            {"code": [None] * 6},
            "no-usable-diagnosis",
            "4 of them for the reason 'no code: t.code' (first rows: code= priority=1; code= ",
        ),
        ({name: [] for name in DIAGNOSED}, "no-diagnosis", "t contains no diagnosis"),
    ],
)
def test_a_store_without_a_usable_row_is_refused_with_the_first_ones(
    engine: DuckDBEngine, tmp_path: Path, columns: dict[str, list], key: str, mentioned: str
) -> None:
    with raises_user_error(key, mentioned):
        write_extracted_folder(engine, records_of(engine, **columns), "store", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("splits", "unknown"), [({"a": "fold 1"}, "fold 1"), ({"a": None}, "None")])
def test_unknown_splits_are_refused(
    engine: DuckDBEngine, tmp_path: Path, splits: dict[str, str], unknown: str
) -> None:
    with raises_user_error("unknown-split", unknown):
        write_extracted_folder(engine, records_of(engine, splits), "store", tmp_path / "out")


def test_an_extracted_folder_with_errors_is_refused(engine: DuckDBEngine, tmp_path: Path) -> None:
    write_extracted_folder(engine, records_of(engine, {"b": "train", "a": "test"}), "store", tmp_path / "out")
    patients, splits = tmp_path / "out" / "patients.parquet", tmp_path / "out" / "splits.parquet"
    table = pq.read_table(patients)
    errors = [
        (
            splits,
            pq.read_table(splits).rename_columns(["patient_id", "fold"]),
            "missing-column",
        ),
        (splits, pa.table({"patient_id": ["a"], "split": ["held_out"]}), "unknown-split"),
        (
            splits,
            pa.table({"patient_id": ["a", "a"], "split": ["train", "test"]}),
            "patients-in-two-splits",
        ),
        (patients, table.drop_columns("sex"), "missing-column"),
        (
            patients,
            pa.table(
                table.to_pydict()
                | {"observation_end": [date(2020, 1, 1)] * 2, "observation_end_reason": ["death", None]},
                schema=PATIENTS,
            ),
            "unknown-observation-end-reason",
        ),
        (patients, pa.concat_tables([table, table]), "duplicate-patient"),
    ]
    for path, changed, key in errors:
        pq.write_table(changed, path)
        with raises_user_error(key, path):
            read_events(engine, tmp_path / "out")
        splits.unlink(missing_ok=True)
    patients.unlink()
    with raises_user_error("missing-table", patients):
        read_events(engine, tmp_path / "out")


def test_ids_of_a_patient_table_are_converted_and_days_must_be_dates(
    engine: DuckDBEngine, tmp_path: Path
) -> None:
    write_extracted_folder(engine, records_of(engine), "store", tmp_path / "out")
    path = tmp_path / "out" / "patients.parquet"
    columns = {name: pa.nulls(2) for name in PATIENTS.names} | {
        "patient_id": [1.0, 2.0],
        "death_date": pa.array([datetime(2020, 1, 1, 22, 30), None], pa.timestamp("ns", tz="Asia/Tokyo")),
    }
    pq.write_table(pa.table(columns), path)
    patients = engine.collect(read_events(engine, tmp_path / "out").patients.order_by("patient_id"))
    assert patients["patient_id"].to_pylist() == ["1", "2"]
    assert patients["death_date"].to_pylist() == [date(2020, 1, 1), None]
    pq.write_table(pa.table(columns | {"death_date": ["01.02.2020", None]}), path)
    with raises_user_error("not-a-date", "columns death_date"):
        read_events(engine, tmp_path / "out")


def test_a_folder_with_two_event_tables_is_refused(engine: DuckDBEngine, tmp_path: Path) -> None:
    write_extracted_folder(engine, records_of(engine), "store", tmp_path / "out")
    (tmp_path / "out" / "diagnoses").mkdir()
    with raises_user_error("two-event-tables", "events and diagnoses"):
        read_events(engine, tmp_path / "out")
