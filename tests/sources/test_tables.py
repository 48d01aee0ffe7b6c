import gzip
import sqlite3
from pathlib import Path
from tempfile import gettempdir

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ehr_bert.engines import DuckDBEngine
from ehr_bert.sources.tables import as_text, opened_tables
from tests.user_errors import raises_user_error

TEXT = 'Visit_ID,name\n1," a "\n2,"b, c"\n3,""\n'
READ = {"visit_id": ["1", "2", "3"], "name": ["a", "b, c", None]}


def read(engine: DuckDBEngine, source: Path | str, name: str, *columns: str) -> dict[str, list]:
    with opened_tables(engine, str(source), Path(gettempdir())) as tables:
        return engine.collect(tables.read(name, columns).order_by(columns[0])).to_pydict()


@pytest.mark.parametrize("path", ["VISITS.csv", "hosp/visits.CSV", "visits.csv.gz"])
def test_text_is_found_in_any_case_and_one_folder_down(
    engine: DuckDBEngine, tmp_path: Path, path: str
) -> None:
    file = tmp_path / "store" / path
    file.parent.mkdir(parents=True)
    file.write_bytes(gzip.compress(TEXT.encode()) if path.endswith("gz") else TEXT.encode())
    assert read(engine, tmp_path / "store", "visits", "visit_id", "name") == READ


def test_a_table_separated_by_tabs_is_recognised_and_its_quotes_are_plain(
    engine: DuckDBEngine, tmp_path: Path
) -> None:
    file = tmp_path / "CONCEPT.csv"
    file.write_text('concept_id\tconcept_name\n1\t"late" onset, mild\n2\t5" scar\n')
    assert read(engine, file, "concept", "concept_id", "concept_name") == {
        "concept_id": ["1", "2"],
        "concept_name": ['"late" onset, mild', '5" scar'],
    }


@pytest.mark.parametrize("name", ["visits.parquet", "visits/0.parquet", "visits.parquet/part/1.parquet"])
def test_parquet_is_read_as_a_file_or_a_folder_and_numbers_become_text(
    engine: DuckDBEngine, tmp_path: Path, name: str
) -> None:
    file = tmp_path / "store" / name
    file.parent.mkdir(parents=True)
    pq.write_table(pa.table({"Visit_ID": [1, 2, 3], "other": [1.0, 2.5, None]}), file)
    assert read(engine, tmp_path / "store", "visits", "visit_id", "other") == {
        "visit_id": ["1", "2", "3"],
        "other": ["1", "2.5", None],
    }


def test_parquet_comes_before_text_of_the_same_name(engine: DuckDBEngine, tmp_path: Path) -> None:
    (tmp_path / "visits.csv.gz").write_bytes(gzip.compress(b"visit_id\n1\n"))
    (tmp_path / "visits.csv").write_text("visit_id\n2\n")
    assert read(engine, tmp_path, "visits", "visit_id") == {"visit_id": ["2"]}
    pq.write_table(pa.table({"visit_id": [3]}), tmp_path / "visits.parquet")
    assert read(engine, tmp_path, "visits", "visit_id") == {"visit_id": ["3"]}


def test_a_duckdb_file_is_read_in_place(engine: DuckDBEngine, tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "store.duckdb")) as database:
        database.execute("CREATE SCHEMA cdm")
        database.execute("CREATE TABLE cdm.Visits AS SELECT 7 AS Visit_ID, DATE '2020-02-29' AS day")
    for source in (tmp_path / "store.duckdb", f"duckdb://{tmp_path / 'store.duckdb'}"):
        assert read(engine, source, "visits", "visit_id", "day") == {
            "visit_id": ["7"],
            "day": ["2020-02-29"],
        }


def test_a_url_is_read_by_ibis_and_copied(engine: DuckDBEngine, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "store.sqlite") as database:
        database.execute("CREATE TABLE Visits (Visit_ID INTEGER, name TEXT, unread BLOB)")
        database.executemany("INSERT INTO Visits VALUES (?, ?, NULL)", [(1, " a "), (2, "b, c"), (3, "")])
    source = f"sqlite://{tmp_path / 'store.sqlite'}"
    with opened_tables(engine, source, tmp_path) as tables:
        copied = tables.read("visits", ["visit_id", "name"])
        assert engine.collect(copied.order_by("visit_id")).to_pydict() == READ
    assert sorted(path.suffix for path in tmp_path.iterdir() if not path.name.startswith(".duckdb")) == [
        ".sqlite"
    ]


def test_a_missing_table_or_column_is_named_with_the_existing_ones(
    engine: DuckDBEngine, tmp_path: Path
) -> None:
    (tmp_path / "visits.csv").write_text(TEXT)
    with raises_user_error("missing-table", "person", "visits"):
        read(engine, tmp_path, "person", "person_id")
    with raises_user_error("missing-column", "visits", "person_id", "visit_id, name"):
        read(engine, tmp_path, "visits", "visit_id", "person_id")
    with raises_user_error("missing-file", tmp_path / "absent"):
        read(engine, tmp_path / "absent", "visits", "visit_id")


def test_a_failed_connection_does_not_show_the_password(engine: DuckDBEngine, tmp_path: Path) -> None:
    with raises_user_error("connection-failed") as caught:
        read(engine, "nosuchbackend://me:secret@host/db", "visits", "visit_id")
    assert "secret" not in str(caught.value)


def test_missing_optional_columns_are_null(engine: DuckDBEngine, tmp_path: Path) -> None:
    (tmp_path / "visits.csv").write_text(TEXT)
    with opened_tables(engine, str(tmp_path), tmp_path) as tables:
        table = tables.read("visits", ["visit_id"], optional=["detail"])
        assert set(engine.collect(table)["detail"].to_pylist()) == {None}


@pytest.mark.parametrize(
    "url", ["https://localhost:1/a.parquet", "s3://bucket/a.csv", "duckdb://md:store", "motherduck://store"]
)
def test_a_url_that_would_install_an_extension_is_refused(
    engine: DuckDBEngine, tmp_path: Path, url: str
) -> None:
    with raises_user_error("unsupported-url"), opened_tables(engine, url, tmp_path):
        pass


@pytest.mark.parametrize("name", ["g[1]", "a*b", "q?r", "b\\s", "o'd"])
def test_the_path_of_a_store_is_literal(engine: DuckDBEngine, tmp_path: Path, name: str) -> None:
    for folder, text in ((name, TEXT), ("g1", "visit_id\n9\n"), ("axb", "visit_id\n9\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "visits.csv").write_text(text)
    assert read(engine, tmp_path / name, "visits", "visit_id", "name") == READ


def test_floats_that_are_not_finite_or_large_become_text(engine: DuckDBEngine) -> None:
    table = engine.load(pa.table({"x": [1.0, 2.5, float("nan"), float("inf"), -1e300, None]}))
    texts = engine.collect(table.select(x=as_text(table.x)))["x"].to_pylist()
    assert texts == ["1", "2.5", None, "inf", "-1e+300", None]
