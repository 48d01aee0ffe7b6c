# Covers: ehr_bert.engines.duckdb, ehr_bert.engines.engine, ehr_bert.engines.shards
import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ehr_bert.engines import DuckDBEngine
from tests.user_errors import raises_user_error


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
