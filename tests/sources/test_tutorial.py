# Covers: ehr_bert.sources, ehr_bert.sources.checks, ehr_bert.sources.tutorial
import gzip
from datetime import date
from pathlib import Path

import pytest

from ehr_bert.engines import DuckDBEngine
from ehr_bert.schemas import EVENTS
from ehr_bert.sources import read_events
from tests.user_errors import raises_user_error

HEADER = "patient\tadmitted\tdischarged\tdiagnosis\tpoa\tpriority\tthird_party\n"
GOOD = "7\t2014-03-01\t2014-03-02\tICD9_1\t1\t2\t0"


def read(engine: DuckDBEngine, path: Path) -> tuple[list[dict], list[tuple]]:
    """Return the usable rows, and the rejected ones as (line, reason, row)."""
    diagnoses = read_events(engine, path)
    rows = engine.collect(diagnoses.rows).to_pylist()
    rejected = [tuple(row.values()) for row in engine.collect(diagnoses.rejected).to_pylist()]
    assert sorted(row["reason"] for row in rows if row["reason"]) == sorted(row[1] for row in rejected)
    return [row for row in rows if row.pop("reason") is None], rejected


def write(tmp_path: Path, content: str | bytes, name: str = "table.tsv") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_fields_are_converted_by_position(engine: DuckDBEngine, tmp_path: Path) -> None:
    (row,), rejected = read(engine, write(tmp_path, HEADER + GOOD + "\n"))
    assert row == {
        "patient_id": "7",
        "admit_date": date(2014, 3, 1),
        "discharge_date": date(2014, 3, 2),
        "date": None,
        "time": None,
        "kind": "diagnosis",
        "code": "ICD9_1",
        "value": None,
        "unit": None,
        "value_text": None,
        "present_on_admission": 1,
        "priority": 2,
        "third_party": 0,
        "unreadable": 0,
    }
    assert rejected == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "blank line"),
        ("  \t ", "blank line"),
        ("7\t2014-03-01\t2014-03-02\tICD9", "not seven fields"),
        (GOOD + "\t9", "not seven fields"),
        ("\t2014-03-01\t2014-03-02\tICD9_1\t1\t2\t0", "no patient id"),
        ("7\t2014-03-01\t2014-03-02\t \t1\t2\t0", "no code"),
        ("7\t\t2014-03-02\tICD9_1\t1\t2\t0", "admission is not a date"),
        ("7\t2014-02-30\t2014-03-02\tICD9_1\t1\t2\t0", "admission is not a date"),
        ("7\t2014-3-1\t2014-03-02\tICD9_1\t1\t2\t0", "admission is not a date"),
        ("7\t2014-03-01\t03/02/2014\tICD9_1\t1\t2\t0", "discharge is not a date"),
        ("7\t2014-03-01\t2014-03-02 soon\tICD9_1\t1\t2\t0", "discharge is not a date"),
        ("7\t2014-03-01\t2014-03-02x\tICD9_1\t1\t2\t0", "discharge is not a date"),
        ("7\t2014-03-02\t2014-03-01\tICD9_1\t1\t2\t0", "discharge before admission"),
        ("7\t2014-03-01\t2014-03-02\tICD\x009\t1\t2\t0", "control character in patient id or code"),
        ("7\t2014-03-01\t2014-03-02\t[MASK]\t1\t2\t0", "code is a special token"),
        ("7\t2014-03-01\t2014-03-02\tempty_pad\t1\t2\t0", "code is a special token"),
    ],
)
def test_a_bad_line_is_rejected_with_its_number_and_the_others_are_kept(
    engine: DuckDBEngine, tmp_path: Path, line: str, reason: str
) -> None:
    rows, rejected = read(engine, write(tmp_path, f"{HEADER}{GOOD}\n{line}\n{GOOD}\n"))
    assert len(rows) == 2
    assert rejected == [(3, reason, line)]


@pytest.mark.parametrize("time", ["", " 10:30:00", "T10:30", "T10:30:00.5Z"])
def test_a_time_after_a_date_is_dropped(engine: DuckDBEngine, tmp_path: Path, time: str) -> None:
    line = f"7\t2014-03-01{time}\t 2014-03-02{time} \tICD9_1\t1\t2\t0\n"
    (row,), _ = read(engine, write(tmp_path, HEADER + line))
    assert (row["admit_date"], row["discharge_date"]) == (date(2014, 3, 1), date(2014, 3, 2))


@pytest.mark.parametrize(
    ("text", "value", "unreadable"),
    [
        ("", None, 0),
        ("1.0", 1, 0),
        ("-3", -3, 0),
        ("+4", 4, 0),
        ("Y", None, 1),
        ("1.5", None, 1),
        ("nan", None, 1),
        ("32766", 32_766, 0),
        ("32767", None, 1),
        ("9" * 400, None, 1),
    ],
)
def test_an_unreadable_ordering_value_is_missing_and_counted(
    engine: DuckDBEngine, tmp_path: Path, text: str, value: int | None, unreadable: int
) -> None:
    (row,), _ = read(engine, write(tmp_path, f"{HEADER}7\t2014-03-01\t2014-03-02\tA\t{text}\t2\t0\n"))
    assert (row["present_on_admission"], row["unreadable"]) == (value, unreadable)


def test_runs_of_spaces_separate_fields_where_tabs_do_not(engine: DuckDBEngine, tmp_path: Path) -> None:
    lines = [GOOD.replace("\t", "   "), GOOD.replace("\t", "      ", 3), "  " + GOOD.replace("\t", " \t ")]
    rows, rejected = read(engine, write(tmp_path, HEADER + "\n".join(lines)))
    assert rejected == []
    assert all(row == rows[0] for row in rows)
    assert len(rows) == 3


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_byte_order_mark_line_endings_and_a_missing_last_one_change_nothing(
    engine: DuckDBEngine, tmp_path: Path, end: str, mark: str
) -> None:
    content = (mark + HEADER + f"{GOOD}\n\n{GOOD}").replace("\n", end)
    rows, rejected = read(engine, write(tmp_path, content))
    assert [row["third_party"] for row in rows] == [0, 0]
    assert rejected == [(3, "blank line", "")]


def test_quotes_and_backslashes_are_plain_characters(engine: DuckDBEngine, tmp_path: Path) -> None:
    codes = ['"A', 'B"', '"C"', "D\\", "'E'", "#F", "\\N"]
    lines = [f"7\t2014-03-01\t2014-03-02\t{code}\t\t\t" for code in codes]
    rows, rejected = read(engine, write(tmp_path, HEADER + "\n".join(lines)))
    assert [row["code"] for row in rows] == codes
    assert rejected == []


def test_gzip_is_unpacked(engine: DuckDBEngine, tmp_path: Path) -> None:
    packed = gzip.compress((HEADER + f"{GOOD}\n" * 5 + "cut").encode())
    rows, rejected = read(engine, write(tmp_path, packed, "table.tsv.gz"))
    assert len(rows) == 5
    assert rejected == [(7, "not seven fields", "cut")]


def test_ids_stay_text_if_some_are_not_numbers(engine: DuckDBEngine, tmp_path: Path) -> None:
    ids = ["7", "007", "x", "1e3", "7.0"]
    lines = [GOOD.replace("7", patient, 1) for patient in ids]
    rows, _ = read(engine, write(tmp_path, HEADER + "\n".join(lines)))
    assert [row["patient_id"] for row in rows] == ids


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (b"", "missing-header"),
        (b"\n" + GOOD.encode(), "missing-header"),
        (b"patient\tadmitted\n", "wrong-column-count"),
        (GOOD.encode() + b"\n", "missing-header"),
        (b"\xff\xfe" + HEADER.encode("utf-16-le"), "not-utf8"),
    ],
)
def test_a_file_without_a_header_is_refused(
    engine: DuckDBEngine, tmp_path: Path, content: bytes, key: str
) -> None:
    with raises_user_error(key, "line 1"):
        read_events(engine, write(tmp_path, content))


def test_bytes_that_are_not_utf_8_are_refused_with_their_line_and_without_their_text(
    engine: DuckDBEngine, tmp_path: Path
) -> None:
    content = HEADER.encode() + f"{GOOD}\nsecret".encode() + b"\xff\n"
    with raises_user_error("not-utf8", "table.tsv, line 3") as caught:
        read(engine, write(tmp_path, content))
    assert "secret" not in str(caught.value)


def test_a_missing_or_truncated_file_is_refused(engine: DuckDBEngine, tmp_path: Path) -> None:
    with raises_user_error("missing-file"):
        read_events(engine, tmp_path / "absent.tsv")
    packed = gzip.compress("".join(f"{HEADER}{GOOD}{n}\n" for n in range(999)).encode())
    with raises_user_error("unreadable-file"):
        read(engine, write(tmp_path, packed[:-20], "table.tsv.gz"))


def test_columns_are_those_of_the_schema(engine: DuckDBEngine, tmp_path: Path) -> None:
    rows = read_events(engine, write(tmp_path, HEADER + GOOD)).rows
    assert rows.schema().to_pyarrow().names == [*EVENTS.names, "reason", "unreadable"]
