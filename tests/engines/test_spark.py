from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ehr_bert.engines import LINE, LINE_NUMBER, Engine
from ehr_bert.errors import UserError

pytestmark = pytest.mark.spark


@pytest.mark.parametrize(("sizes", "expected"), [([50, 0, 4], [30, 24]), ([0], [0])])
def test_files_follow_each_other_across_tables_and_partitions(
    spark: Engine, tmp_path: Path, sizes: list[int], expected: list[int]
) -> None:
    schema = pa.schema({"x": pa.int64()})
    tables = [
        spark.load(pa.table({"x": pa.array(range(size)[::-1], pa.int64())})).order_by("x") for size in sizes
    ]
    spark.write_parquet(tables, tmp_path / "out", schema, rows_per_file=30)
    files = [pq.read_table(path) for path in sorted((tmp_path / "out").iterdir())]
    assert [file.num_rows for file in files] == expected
    found = [value for file in files for value in file["x"].to_pylist()]
    assert found == [value for size in sizes for value in range(size)]


def test_lines_are_numbered_across_partitions(spark: Engine, tmp_path: Path) -> None:
    # Files are cut at 4 MB at the least.
    lines = [f"{number:09}" * 100 for number in range(2, 12_000)]
    (tmp_path / "lines [1].txt").write_text("\n".join(["header", *lines]) + "\n")
    numbered = spark.read_numbered_lines(tmp_path / "lines [1].txt")
    first = numbered.select(LINE_NUMBER, number=numbered[LINE].substr(0, 9).cast("int64"))
    found = spark.collect(
        first.aggregate(rows=first.count(), right=(first.number == first[LINE_NUMBER]).sum())
    )
    assert found.to_pylist() == [{"rows": len(lines), "right": len(lines)}]


def test_a_line_that_is_not_utf8_is_the_users_fault(spark: Engine, tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_bytes(b"header\nsecret\xff\n")
    with pytest.raises(UserError, match="UTF-8") as caught:
        spark.materialise(spark.read_lines(tmp_path / "lines.txt"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("content", ["a,b\n1,2\n3\n", "a,b\n1,2\n3,4,5\n"])
def test_a_row_of_another_length_than_the_header_is_the_users_fault(
    spark: Engine, tmp_path: Path, content: str
) -> None:
    (tmp_path / "table.csv").write_text(content)
    with pytest.raises(UserError, match="fields"):
        spark.materialise(spark.read_csv(tmp_path / "table.csv"))


def test_every_field_is_text_as_it_stands(spark: Engine, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text('\ufeffid,code\r\n007,"a, ""b""\nc"\r\n,1.0\r\n')
    found = spark.collect(spark.read_csv(tmp_path / "table.csv")).to_pydict()
    assert found == {"id": ["007", None], "code": ['a, "b"\nc', "1.0"]}


def test_the_session_s_own_tables_are_read_in_place(spark: Engine) -> None:
    held = spark.load(pa.table({"x": [1, 2]}))
    found = spark.attach("pyspark://")
    assert found is not None
    assert spark.collect(found[held.get_name()])["x"].to_pylist() == [1, 2]
    assert spark.attach("postgres://host/db") is None
