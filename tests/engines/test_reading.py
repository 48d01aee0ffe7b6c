# Covers: ehr_bert.engines.duckdb, ehr_bert.engines.engine, ehr_bert.engines.shards
import gzip
import re
import sqlite3
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ehr_bert.engines import DuckDBEngine
from tests.user_errors import raises_user_error, warning_keys


def test_every_field_is_unchanged_text(engine: DuckDBEngine, tmp_path: Path) -> None:
    text = '\ufeffid,code\r\n007,"a, ""b""\r\nc"\r\n,1.0\r\n'
    (tmp_path / "table.csv.gz").write_bytes(gzip.compress(text.encode()))
    rows = engine.collect(engine.read_csv(tmp_path / "table.csv.gz")).to_pydict()
    assert rows == {"id": ["007", None], "code": ['a, "b"\r\nc', "1.0"]}


@pytest.mark.parametrize(
    ("content", "key", "line"),
    [
        (b"a,b\n1,2\n3\n", "malformed-line", 3),
        (b"a,b\n1,2\n3,4,5\n", "malformed-line", 3),
        (b'a,b\n1,2\n"secret,4\n', "malformed-line", 3),
        (b"a,b\n\xffsecret,2\n", "not-utf8", 2),
        (b"", "missing-header", 1),
        (b"a,b,a\n", "duplicate-column", 1),
    ],
)
def test_a_damaged_table_is_refused_with_its_line_and_without_its_text(
    engine: DuckDBEngine, tmp_path: Path, content: bytes, key: str, line: int
) -> None:
    (tmp_path / "table.csv").write_bytes(content)
    with raises_user_error(key, f"table.csv, line {line}: ") as caught:
        engine.materialise(engine.read_csv(tmp_path / "table.csv"))
    assert "secret" not in str(caught.value)


def test_files_are_written_in_the_order_of_the_table(engine: DuckDBEngine, tmp_path: Path) -> None:
    table = engine.load(pa.table({"x": [(7 * number) % 11 for number in range(11)]}))
    schema = pa.schema({"x": pa.int64()})
    engine.write_parquet([table.order_by("x")], tmp_path / "out", schema, rows_per_file=4)
    files = sorted((tmp_path / "out").iterdir())
    assert [pq.read_table(file)["x"].to_pylist() for file in files] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10],
    ]


def test_only_duckdb_files_are_read_in_place(engine: DuckDBEngine, tmp_path: Path) -> None:
    assert engine.attach("postgres://host/store.db") is None
    assert engine.attach(str(tmp_path / "table.csv")) is None
    with raises_user_error("unreadable-file"):
        engine.attach(str(tmp_path / "absent.duckdb"))


def test_a_folder_without_a_parquet_file_is_refused(engine: DuckDBEngine, tmp_path: Path) -> None:
    (tmp_path / "table.csv").touch()
    with raises_user_error("no-parquet-file", tmp_path):
        engine.read_parquet(tmp_path)


ODD_NAMES = [
    *("g[1]", "a*b", "q?r", "b\\s", "o'd", "co,ma", "br{1,2}", "[!a]", "*"),
    *("s3:x", " sp", "nl\nx", "%41", "~"),
]
"""Names that a reader could take for a pattern, a URL or an escape."""


@pytest.mark.parametrize("name", ODD_NAMES)
def test_paths_are_literal(tmp_path: Path, name: str) -> None:
    plain = re.sub(r"[\[\]!*?{}\\]", "", f"a{name}")
    for place, value in ((name, "right"), (plain, "wrong"), ("g1", "wrong"), ("a", "wrong")):
        folder = tmp_path / place
        folder.mkdir(exist_ok=True)
        (folder / f"{place}.csv").write_text(f"x\n{value}\n")
        (folder / f"{place}.parquet").mkdir(exist_ok=True)
        pq.write_table(pa.table({"x": [value]}), folder / f"{place}.parquet" / f"{place}.parquet")
    with duckdb.connect(tmp_path / "store.duckdb") as database:
        database.execute("CREATE TABLE x AS SELECT 'right' AS x")
    folder = tmp_path / name
    (tmp_path / "store.duckdb").rename(folder / f"{name}.duckdb")
    with DuckDBEngine(folder) as engine:
        tables = {
            "csv": engine.read_csv(folder / f"{name}.csv"),
            "lines": engine.read_lines(folder / f"{name}.csv").rename(x="line"),
            "file": engine.read_parquet(folder / f"{name}.parquet" / f"{name}.parquet"),
            "folder": engine.read_parquet(folder / f"{name}.parquet"),
        }
        if name not in ("q?r", "b\\s"):
            tables["database"] = (engine.attach(str(folder / f"{name}.duckdb")) or {})["x"]
        read = {kind: engine.collect(table)["x"].to_pylist() for kind, table in tables.items()}
    assert read == {kind: ["right"] for kind in tables}


@pytest.mark.parametrize("name", ["q?r.duckdb", "b\\s.duckdb"])
def test_a_database_that_duckdb_cannot_open_is_refused(
    engine: DuckDBEngine, tmp_path: Path, name: str
) -> None:
    with raises_user_error("unsupported-path", name):
        engine.attach(str(tmp_path / name))


def test_a_path_that_duckdb_cannot_escape_is_refused(engine: DuckDBEngine, tmp_path: Path) -> None:
    path = tmp_path / "a\\b[1].csv"
    path.write_text("x\n1\n")
    with raises_user_error("unsupported-path", path):
        engine.read_csv(path)


def test_a_foreign_database_installs_no_extension(engine: DuckDBEngine, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "store.db") as database:
        database.execute("CREATE TABLE t (x)")
    with raises_user_error("unreadable-file", "store.db"):
        engine.attach(str(tmp_path / "store.db"))


@pytest.mark.parametrize(
    "url", ["https://localhost:1/x.csv", "s3://bucket/x.csv", "http://localhost:1/x.parquet"]
)
def test_remote_files_are_not_read(engine: DuckDBEngine, url: str) -> None:
    for reads in (engine.read_csv, engine.read_lines, engine.read_parquet):
        with raises_user_error("unreadable-file"):
            reads(Path(url))


def test_the_configuration_is_locked(engine: DuckDBEngine) -> None:
    for name in ("autoinstall_known_extensions", "autoload_known_extensions", "allow_community_extensions"):
        setting = engine._backend.con.execute(f"SELECT current_setting('{name}')").fetchone()
        assert setting == (False,)
        with pytest.raises(duckdb.InvalidInputException, match="locked"):
            engine._backend.con.execute(f"SET {name} = true")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_csv('{file}')",
        "SELECT * FROM '{file}'",
        "SELECT content AS x FROM read_text('{file}')",
        "SELECT (SELECT x FROM read_csv('{file}')) AS x",
        "SELECT file AS x FROM glob('{file}*')",
    ],
)
def test_views_that_read_other_files_are_left_out(
    engine: DuckDBEngine, tmp_path: Path, query: str, caplog: pytest.LogCaptureFixture
) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("x\n1\n")
    with duckdb.connect(tmp_path / "store.duckdb") as database:
        database.execute("CREATE TABLE t AS SELECT 1 AS x; CREATE VIEW good AS SELECT * FROM t")
        database.execute(f"CREATE VIEW bad AS {query.format(file=secret)}")
        database.execute("CREATE VIEW indirect AS SELECT * FROM bad")
    tables = engine.attach(str(tmp_path / "store.duckdb"))
    assert tables is not None
    assert sorted(tables) == ["good", "t"]
    assert warning_keys(caplog) == ["view-reads-files"] * 2
