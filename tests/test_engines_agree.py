"""The commands write the same bytes on DuckDB and on Spark."""

import gzip
import io
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ehr_bert.cli import main as command
from ehr_bert.sequences import folder as folder_module
from tests.sequences.messy import HEADER, messy_rows, tutorial_lines
from tests.sources.stores import write_tables
from tests.sources.test_omop import TABLES

pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("spark")]

ODD_LINES = [
    "1\t2014-02-30\t2014-03-01\tA\t\t\t\n",
    "1\t0000-01-01\t2014-03-01\tA\t\t\t\n",
    "1\t2014-3-01\t2014-03-01\tA\t\t\t\n",
    "1\t2014-03-01 10:00\t2014-03-02T11:30:00\tA\t1.0\t1e3\t 7 \n",
    "1\t 2014-03-01\t2014-03-01\t A b \t+2\t2147483647\t1.5\n",
    "1       2014-04-01      2014-04-01      B  6\t2  0\n",
    "2\t2014-05-02\t2014-05-01\tA\t\t\t\n",
    "2\t2014-05-01\t2014-05-01\t[MASK]\t\t\t\n",
    "2\x01\t2014-05-01\t2014-05-01\tA\t\t\t\n",
    "ä\t2014-05-01\t2014-05-01\tÀ\t\t\t\n",
    "\t2014-05-01\t2014-05-01\tA\t\t\t\n",
    "\n",
    "   \n",
    "one\ttwo\n",
    "1\t2\t3\t4\t5\t6\t7\t8\t9\n",
    'last"\t2014-05-01\t2014-05-01\t"A',
]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "SHARD_PATIENTS", 17)


def written(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def written_by_both(command_name: str, source: Path, folder: Path, *options: str) -> dict[str, bytes]:
    """Run a command on both engines, and return the files, which must be equal."""
    for engine in ("duckdb", "spark"):
        assert command([command_name, str(source), str(folder / engine), "--engine", engine, *options]) == 0
    files = written(folder / "duckdb")
    assert written(folder / "spark") == files
    return files


def test_preprocessing_a_messy_table_with_every_rule(tmp_path: Path) -> None:
    lines = tutorial_lines(messy_rows(150, seed=61))
    table = tmp_path / "table.tsv.gz"
    table.write_bytes(gzip.compress("".join([HEADER, *lines, *ODD_LINES]).encode()))
    files = written_by_both(
        *("preprocess", table, tmp_path),
        *("--sample", "120", "--min-codes", "2", "--min-patients", "3", "--until", "2016-06-01"),
        *("--tokens", "gap", "--seed", "3"),
    )
    assert len([name for name in files if name.startswith("sequences/train")]) > 2
    for engine in ("processes", "spark"):
        arguments = (str(tmp_path / "duckdb"), str(tmp_path / f"by {engine}"), "--engine", engine)
        assert command(["features", *arguments, "--shards", "2", "--processes", "1"]) == 0
    assert written(tmp_path / "by processes") == written(tmp_path / "by spark")


def test_extracting_a_store_and_preprocessing_it_with_tokens(tmp_path: Path) -> None:
    store = write_tables(tmp_path / "omop", TABLES)
    written_by_both("extract", store, tmp_path / "extracted", "--from", "omop", "--without-visit", "keep")
    written_by_both(
        *("preprocess", tmp_path / "extracted" / "duckdb", tmp_path / "out"),
        *("--tokens", "sex,age,gap", "--seed", "3"),
    )
    for engine in ("processes", "spark"):
        arguments = (str(tmp_path / "out" / "duckdb"), str(tmp_path / f"by {engine}"), "--engine", engine)
        assert command(["features", *arguments, "--processes", "1"]) == 0
    assert written(tmp_path / "by processes") == written(tmp_path / "by spark")
    assert b'"observation": true' in (tmp_path / "by spark" / "examples.json").read_bytes()


def test_extracting_times_in_a_time_zone_until_an_extraction_date(tmp_path: Path) -> None:
    tables = {
        "encounters": """
            Id,START,STOP,PATIENT
            e,2012-02-03T23:30:00Z,2012-02-05T08:00:00+09:00,p
            f,2012-03-25 00:59:59Z,2012-03-25T01:00:00Z,p
        """,
        "patients": "Id,BIRTHDATE,DEATHDATE,GENDER\np,1980-05-05,1980-05-04,F\nq,1980-05-05,,M",
        "conditions": """
            START,PATIENT,ENCOUNTER,CODE
            2012-02-03T20:15:59.9-0500,p,e,44054006
            2012-02-03T23:00:00Z,p,e,44054006
            2012-03-25,p,f,44054006
            2012-03-25T01:00:00Z,p,f,44054006
            never,p,f,44054006
        """,
    }
    store = write_tables(tmp_path / "synthea", tables)
    options = ("--from", "synthea", "--time-zone", "Europe/Berlin", "--extraction-date", "2012-03-01")
    files = written_by_both("extract", store, tmp_path / "extracted", *options)
    events = pq.read_table(io.BytesIO(files["events/00000.parquet"])).to_pylist()
    assert [(str(row["admit_date"]), str(row["date"]), str(row["time"])) for row in events] == [
        ("2012-02-04", "2012-02-04", "2012-02-04 02:15:59"),
        ("2012-02-04", "2012-02-04", "None"),
        ("2012-03-25", "2012-03-25", "2012-03-25 03:00:00"),
        ("2012-03-25", "2012-03-25", "None"),
        ("2012-03-25", "None", "None"),
    ]


def test_ranks_that_exceed_a_small_integer(tmp_path: Path) -> None:
    """Spark numbers rows with 32-bit integers, which the rank in a place with hundreds of codes overflows."""
    lines = [
        f"{code % 40}\t2014-01-{1 + code % 28:02}\t2014-02-{1 + code % 28:02}\tICD9_{code:04}\t1\t{code}\t0\n"
        for code in range(3000)
    ]
    table = tmp_path / "table.tsv"
    table.write_text("".join([HEADER, *lines]), encoding="utf-8")
    written_by_both("preprocess", table, tmp_path)
