from pathlib import Path

import pyarrow as pa
import pytest

from ehr_bert.engines import DuckDBEngine
from ehr_bert.engines import duckdb as duckdb_engine
from ehr_bert.errors import UserError


@pytest.mark.parametrize(("sizes", "expected"), [([5, 0, 4], [3, 3, 3]), ([7], [3, 3, 1]), ([0], [0])])
def test_batches_are_of_one_size_across_tables(tmp_path: Path, sizes: list[int], expected: list[int]) -> None:
    with DuckDBEngine(tmp_path) as engine:
        tables = [engine.load(pa.table({"x": pa.array(range(size), pa.int64())})) for size in sizes]
        batches = list(engine.batches(tables, 3))
    assert [batch.num_rows for batch in batches] == expected
    found = [value for batch in batches for value in batch["x"].to_pylist()]
    assert found == [value for size in sizes for value in range(size)]


def test_parts_are_ascending_and_hold_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duckdb_engine, "_AGGREGATED_BYTES", 1_000_000)
    values = [str(number % 800) for number in range(5_000)]
    with DuckDBEngine(tmp_path, memory_limit="1GB") as engine:
        parts = engine.parts(engine.materialise(engine.load(pa.table({"x": values}))), "x")
        found = [sorted(engine.collect(part)["x"].to_pylist()) for part in parts]
    assert len(parts) > 3
    assert [value for part in found for value in part] == sorted(values)


def test_a_bad_limit_is_the_users_fault_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="8GB"):
        DuckDBEngine(tmp_path, memory_limit="much")
    with DuckDBEngine(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_too_little_memory_is_the_users_fault(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("header\n" + "line\n" * 1_000_000)
    with DuckDBEngine(tmp_path, memory_limit="1MB") as engine, pytest.raises(UserError, match="memory"):
        engine.materialise(engine.read_lines(tmp_path / "lines.txt"))
