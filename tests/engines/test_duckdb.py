from pathlib import Path

import pyarrow as pa
import pytest

from ehr_bert.engines import DuckDBEngine
from ehr_bert.engines import duckdb as duckdb_engine
from tests.user_errors import raises_user_error


@pytest.mark.parametrize(("sizes", "expected"), [([5, 0, 4], [3, 3, 3]), ([7], [3, 3, 1]), ([0], [0])])
def test_batches_are_of_one_size_across_tables(tmp_path: Path, sizes: list[int], expected: list[int]) -> None:
    with DuckDBEngine(tmp_path) as engine:
        tables = [engine.load(pa.table({"x": pa.array(range(size), pa.int64())})) for size in sizes]
        batches = list(engine.batches(tables, 3))
    assert [batch.num_rows for batch in batches] == expected
    values = [value for batch in batches for value in batch["x"].to_pylist()]
    assert values == [value for size in sizes for value in range(size)]


def test_parts_are_ascending_and_contain_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duckdb_engine, "_AGGREGATED_BYTES", 1_000_000)
    values = [str(number % 800) for number in range(5_000)]
    with DuckDBEngine(tmp_path, memory_limit="1GB") as engine:
        parts = engine.parts(engine.materialise(engine.load(pa.table({"x": values}))), "x")
        collected = [sorted(engine.collect(part)["x"].to_pylist()) for part in parts]
    assert len(parts) > 3
    assert [value for part in collected for value in part] == sorted(values)


def test_an_invalid_limit_is_a_user_error_and_leaves_no_files(tmp_path: Path) -> None:
    with raises_user_error("invalid-engine-setting", "much", "8GB"):
        DuckDBEngine(tmp_path, memory_limit="much")
    with DuckDBEngine(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_too_little_memory_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("header\n" + "line\n" * 1_000_000)
    with (
        DuckDBEngine(tmp_path, memory_limit="1MB") as engine,
        raises_user_error("out-of-memory", "--memory-limit"),
    ):
        engine.materialise(engine.read_lines(tmp_path / "lines.txt"))
