from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ehr_bert.engines import LINE, LINE_NUMBER, Engine
from ehr_bert.errors import UserError
from tests.user_errors import raises_user_error

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
    values = [value for file in files for value in file["x"].to_pylist()]
    assert values == [value for size in sizes for value in range(size)]


def test_lines_are_numbered_across_partitions(spark: Engine, tmp_path: Path) -> None:
    # Spark splits files into parts of at least 4 MB.
    lines = [f"{number:09}" * 100 for number in range(2, 12_000)]
    (tmp_path / "lines [1].txt").write_text("\n".join(["header", *lines]) + "\n")
    numbered = spark.read_numbered_lines(tmp_path / "lines [1].txt")
    first = numbered.select(LINE_NUMBER, number=numbered[LINE].substr(0, 9).cast("int64"))
    counts = spark.collect(
        first.aggregate(rows=first.count(), right=(first.number == first[LINE_NUMBER]).sum())
    )
    assert counts.to_pylist() == [{"rows": len(lines), "right": len(lines)}]


def test_a_line_that_is_not_utf8_is_a_user_error(spark: Engine, tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_bytes(b"header\nsecret\xff\n")
    with raises_user_error("not-utf8") as caught:
        spark.materialise(spark.read_lines(tmp_path / "lines.txt"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("content", ["a,b\n1,2\n3\n", "a,b\n1,2\n3,4,5\n"])
def test_a_row_of_another_length_than_the_header_is_a_user_error(
    spark: Engine, tmp_path: Path, content: str
) -> None:
    (tmp_path / "table.csv").write_text(content)
    with raises_user_error("malformed-line"):
        spark.materialise(spark.read_csv(tmp_path / "table.csv"))


def test_every_field_is_unchanged_text(spark: Engine, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text('\ufeffid,code\r\n007,"a, ""b""\nc"\r\n,1.0\r\n')
    rows = spark.collect(spark.read_csv(tmp_path / "table.csv")).to_pydict()
    assert rows == {"id": ["007", None], "code": ['a, "b"\nc', "1.0"]}


def test_tables_of_the_session_are_read_in_place(spark: Engine) -> None:
    loaded = spark.load(pa.table({"x": [1, 2]}))
    tables = spark.attach("pyspark://")
    assert tables is not None
    assert spark.collect(tables[loaded.get_name()])["x"].to_pylist() == [1, 2]
    assert spark.attach("postgres://host/db") is None


def test_a_user_error_of_a_task_keeps_its_key(spark: Engine) -> None:
    def fail(task: int) -> None:
        raise UserError("empty-folder", f"folder {task} is empty. Choose another folder.")

    with raises_user_error("empty-folder") as caught:
        spark.run(fail, [7])
    assert caught.value.message == "folder 7 is empty. Choose another folder."
