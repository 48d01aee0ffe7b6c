from datetime import date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ehr_bert.engines import DuckDBEngine
from ehr_bert.sources import read_events
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
        "code": "A",
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
