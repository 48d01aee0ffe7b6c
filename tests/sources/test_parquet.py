# Covers: ehr_bert.sources.parquet, ehr_bert.sources.checks
from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq

from ehr_bert.engines import DuckDBEngine
from ehr_bert.sources import read_events
from ehr_bert.sources.checks import unreadable_values
from tests.user_errors import raises_user_error

COLUMNS = {
    "patient_id": [7, 8, None],
    "admit_date": [datetime(2014, 3, 1, 10, 30)] * 3,
    "discharge_date": [date(2014, 3, 2), date(2014, 2, 2), date(2014, 3, 2)],
    "code": ["A", "A", "A"],
}


def test_other_types_are_converted_and_ordering_columns_are_optional(
    engine: DuckDBEngine, tmp_path: Path
) -> None:
    pq.write_table(pa.table(COLUMNS), tmp_path / "table.parquet")
    diagnoses = read_events(engine, tmp_path / "table.parquet")
    (row,) = [row for row in engine.collect(diagnoses.rows).to_pylist() if row["reason"] is None]
    assert row == {
        "patient_id": "7",
        "admit_date": date(2014, 3, 1),
        "discharge_date": date(2014, 3, 2),
        "date": None,
        "time": None,
        "kind": "diagnosis",
        "code": "A",
        "value": None,
        "unit": None,
        "value_text": None,
        "present_on_admission": None,
        "priority": None,
        "third_party": None,
        "reason": None,
        "unreadable": 0,
    }


def test_rejected_rows_have_no_line(engine: DuckDBEngine, tmp_path: Path) -> None:
    pq.write_table(pa.table(COLUMNS), tmp_path / "table.parquet")
    rejected = engine.collect(read_events(engine, tmp_path / "table.parquet").rejected).to_pylist()
    assert [(row["line"], row["reason"]) for row in rejected] == [
        (None, "discharge before admission"),
        (None, "no patient id"),
    ]
    assert rejected[0]["row"].startswith("8\t2014-03-01 10:30:00\t2014-02-02\tA\t")


def test_a_code_with_a_line_end_is_rejected(engine: DuckDBEngine, tmp_path: Path) -> None:
    pq.write_table(pa.table({**COLUMNS, "code": ["A\nB"] * 3}), tmp_path / "table.parquet")
    rows = engine.collect(read_events(engine, tmp_path / "table.parquet").rows)
    assert rows["reason"][0].as_py() == "control character in patient id or code"


def test_a_missing_column_and_a_damaged_file_are_refused(engine: DuckDBEngine, tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"patient_id": ["7"], "code": ["A"]}), path)
    with raises_user_error("missing-column", "admit_date, discharge_date"):
        read_events(engine, path)
    path.write_bytes(b"PAR1")
    with raises_user_error("unreadable-file"):
        read_events(engine, path)
    (tmp_path / "folder").mkdir()
    with raises_user_error("no-parquet-file", tmp_path / "folder"):
        read_events(engine, tmp_path / "folder")


def test_the_columns_of_an_event_table_are_converted_and_checked(
    engine: DuckDBEngine, tmp_path: Path
) -> None:
    visit = {"patient_id": "7", "admit_date": date(2014, 3, 1), "discharge_date": date(2014, 3, 5)}
    expected = {
        # date, time and value as written; then date, time, value, and the unreadable columns
        ("2014-03-02", "2014-03-02 10:30:59.7", "1.5"): ("2014-03-02", "2014-03-02 10:30:59", 1.5, []),
        (None, "2014-03-02T10:30Z", " -.5e2 "): ("2014-03-02", "2014-03-02 10:30:00", -50.0, []),
        ("2014-03-02", "2014-03-03 10:30", None): ("2014-03-02", None, None, ["time"]),
        ("2014-03-02", "2014-03-02 00:00:00", "1e999"): ("2014-03-02", None, None, ["value"]),
        (None, "2014-03-02", "nan"): ("2014-03-02", None, None, ["value"]),
        ("soon", "2014-03-02 10:30", "0"): ("2014-03-02", "2014-03-02 10:30:00", 0.0, ["date"]),
        ("2014-03-02", "noon", "1,5"): ("2014-03-02", None, None, ["time", "value"]),
        ("2014-03-02", None, "7."): ("2014-03-02", None, 7.0, []),
        (None, None, None): (None, None, None, []),
    }
    rows = [
        {**visit, "code": str(number), "date": day, "time": time, "value": value, "kind": "lab"}
        for number, (day, time, value) in enumerate(expected)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "table.parquet")
    checked = read_events(engine, tmp_path / "table.parquet").rows.order_by("code")
    assert [
        (
            row["date"] and str(row["date"]),
            row["time"] and str(row["time"]),
            row["value"],
            list(unreadable_values([(row["unreadable"], 1)])),
        )
        for row in engine.collect(checked).to_pylist()
    ] == list(expected.values())


def test_an_unknown_kind_is_rejected_and_a_missing_one_is_a_diagnosis(
    engine: DuckDBEngine, tmp_path: Path
) -> None:
    kinds = ["lab", None, "Diagnosis", "note"]
    columns = {name: [values[0]] * 4 for name, values in COLUMNS.items()}
    pq.write_table(pa.table({**columns, "kind": kinds, "code": list("ABCD")}), tmp_path / "table.parquet")
    rows = engine.collect(read_events(engine, tmp_path / "table.parquet").rows.order_by("code"))
    assert rows["kind"].to_pylist()[:2] == ["lab", "diagnosis"]
    assert rows["reason"].to_pylist() == [None, None, "unknown kind of event", "unknown kind of event"]


def test_ids_of_floats_have_no_decimals(engine: DuckDBEngine, tmp_path: Path) -> None:
    pq.write_table(pa.table({**COLUMNS, "patient_id": [7.0, 1e12, float("nan")]}), tmp_path / "table.parquet")
    rows = engine.collect(read_events(engine, tmp_path / "table.parquet").rows)
    assert rows["patient_id"].to_pylist() == ["7", "1000000000000", None]


def test_a_column_of_lists_is_refused(engine: DuckDBEngine, tmp_path: Path) -> None:
    pq.write_table(pa.table({**COLUMNS, "code": [["A", "B"]] * 3}), tmp_path / "table.parquet")
    with raises_user_error("wrong-column-type", "column code"):
        read_events(engine, tmp_path / "table.parquet")


def test_times_of_nanoseconds_with_a_zone_are_converted(engine: DuckDBEngine, tmp_path: Path) -> None:
    times = pa.array([datetime(2014, 3, 1, 22, 30)] * 3, pa.timestamp("ns", tz="UTC"))
    columns = {**COLUMNS, "discharge_date": times, "time": times, "value": pa.nulls(3)}
    pq.write_table(pa.table(columns), tmp_path / "table.parquet")
    for zone, hour in [(None, datetime(2014, 3, 1, 22, 30)), ("Europe/Berlin", datetime(2014, 3, 1, 23, 30))]:
        rows = engine.collect(read_events(engine, tmp_path / "table.parquet", zone and ZoneInfo(zone)).rows)
        assert rows["time"].to_pylist() == [hour] * 3
    rows = engine.collect(read_events(engine, tmp_path / "table.parquet", ZoneInfo("Asia/Tokyo")).rows)
    assert rows["discharge_date"].to_pylist() == [date(2014, 3, 2)] * 3
