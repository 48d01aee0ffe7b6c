"""Spark, in this process or on a cluster. Large tables stay on the executors, which also write them.

Executors need this package, and access to the input and output under the same paths.
"""

import logging
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import TracebackType

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq
import pyspark.sql.functions as F
from ibis.backends.pyspark.datatypes import PySparkSchema
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import TimestampType

from ehr_bert.engines.engine import LINE, LINE_NUMBER, csv_columns, parquet_files
from ehr_bert.engines.shards import shard_path, write_shard
from ehr_bert.errors import UserError
from ehr_bert.files import ScratchFolder
from ehr_bert.processes import Job, Result

_LOCAL_CONF = {
    "spark.driver.memory": "4g",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.sql.shuffle.partitions": "16",
}
"""Configuration of Spark in this process."""

_CONF = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "OFF",
    "spark.sql.ansi.enabled": "false",
}
"""Configuration of every session.

The log is off because Spark's log of an error quotes the data; the error is also raised as an exception. ANSI
mode is off because it raises an error for a missing array element, which Ibis expects to be null.
"""

_FIXED_CONF = {"spark.sql.session.timeZone": "UTC"}
"""Configuration that cannot be overridden. The result must not depend on the time zone of the machine."""

_NUMBER = "__number"
_SHARD = "__shard"
_PARTITION_ROWS = 2**33
"""Size of the range of row ids that `monotonically_increasing_id` reserves per partition."""

_BELOW_HEADER = "partition > 0 OR row > 0"


class SparkEngine:
    """An `Engine` on a Spark session. It uses the active session of this process, or starts one.

    The engine is a context manager. Leaving it stops a session that it started, and removes its files.

    Args:
        scratch: Parent of temporary folders, on a disk that the executors can access.
        master: Master URL of Spark, `local[*]` for all cores of this machine.
        conf: Configuration of Spark by name. It overrides the configuration of this engine.

    Raises:
        UserError: Spark does not start (key `spark-start-failed`).
    """

    def __init__(
        self, scratch: Path, master: str = "local[*]", conf: Mapping[str, str] | None = None
    ) -> None:
        self._folder = ScratchFolder(scratch, "spark")
        self._names = (f"table_{id(self)}_{number}" for number in count())
        self._kept: dict[str, DataFrame] = {}
        self._is_own = SparkSession.getActiveSession() is None
        try:
            self._session = _session(master, self._folder.path, conf or {})
        except (PySparkException, Py4JJavaError, RuntimeError) as error:
            self._folder.remove()
            raise UserError(
                "spark-start-failed",
                f"Spark does not start at {master}: {_first_line(error)}. Check --spark-master and "
                "--spark-conf.",
            ) from error
        self._backend = ibis.pyspark.connect(self._session)

    def __enter__(self) -> "SparkEngine":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for name in list(self._kept):
            self._forget(name)
        if self._is_own:
            self._session.stop()
        self._folder.remove()

    def read_lines(self, path: Path) -> ir.Table:
        """As `Engine.read_lines`."""
        return self._viewed(self._lines(path).where(_BELOW_HEADER).select(LINE))

    def read_numbered_lines(self, path: Path) -> ir.Table:
        """As `Engine.read_numbered_lines`, from the numbers of lines of the previous partitions."""
        lines = self._lines(path)
        sizes = lines.groupBy("partition").agg(F.max("row").alias("last"))
        ends = sizes.selectExpr(
            "partition AS of",
            "coalesce(sum(last + 1) OVER ("
            "ORDER BY partition ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before",
        )
        numbered = lines.where(_BELOW_HEADER).join(F.broadcast(ends), F.col("partition") == F.col("of"))
        return self._viewed(numbered.select(LINE, (F.col("before") + F.col("row") + 1).alias(LINE_NUMBER)))

    def read_parquet(self, path: Path) -> ir.Table:
        """As `Engine.read_parquet`."""
        parquet_files(path)  # for its error
        reader = self._session.read.option("recursiveFileLookup", "true")
        if path.is_dir():
            reader = reader.option("pathGlobFilter", "*.parquet")
        with _user_errors():
            return self._viewed(reader.parquet(_url(path)))

    def read_csv(self, path: Path, separator: str = ",", quote: str = '"') -> ir.Table:
        """As `Engine.read_csv`."""
        columns = csv_columns(path, separator, quote)
        reader = self._session.read.option("header", "true").option("mode", "FAILFAST")
        rows = reader.csv(
            _url(path),
            schema=", ".join(f"`{name.replace('`', '``')}` STRING" for name in columns),
            sep=separator,
            quote=quote,
            escape=quote,
            multiLine=bool(quote),
            enforceSchema=True,
        )
        return self._viewed(rows)

    def attach(self, url: str) -> Mapping[str, ir.Table] | None:
        """As `Engine.attach`, for `pyspark://`: the tables of a database in the catalog of the session."""
        scheme, separator, database = url.partition("://")
        if scheme != "pyspark" or not separator:
            return None
        with _user_errors():
            names = self._backend.list_tables(database=database or None)
            return {name: self._backend.table(name, database=database or None) for name in names}

    def zoned_columns(self, table: ir.Table) -> list[str]:
        """As `Engine.zoned_columns`, for Spark's type `TIMESTAMP`. Ibis does not know its time zone."""
        schema = self._session.sql(ibis.to_sql(table, dialect="pyspark")).schema
        return [field.name for field in schema if isinstance(field.dataType, TimestampType)]

    def load(self, table: pa.Table) -> ir.Table:
        """As `Engine.load`."""
        return self._viewed(self._session.createDataFrame(table))

    def materialise(self, table: ir.Table) -> ir.Table:
        """As `Engine.materialise`. Data that exceed the memory of the executors are kept on their disks."""
        with _user_errors():
            kept = self._frame(table).persist()
            kept.count()
        return self._viewed(kept)

    def drop(self, table: ir.Table) -> None:
        """As `Engine.drop`."""
        self._forget(table.get_name())

    def parts(self, table: ir.Table, column: str) -> list[ir.Table]:
        """As `Engine.parts`, in one part, since Spark partitions the table itself."""
        return [table]

    def collect(self, table: ir.Table) -> pa.Table:
        """As `Engine.collect`."""
        with _user_errors():
            return self._frame(table).toArrow().cast(table.schema().to_pyarrow())

    def batches(self, tables: Sequence[ir.Table], rows: int) -> Iterator[pa.RecordBatch]:
        """As `Engine.batches`, through files that the executors write."""
        with tempfile.TemporaryDirectory(dir=self._folder.path) as folder:
            shards = Path(folder) / "shards"
            self.write_parquet(tables, shards, tables[0].schema().to_pyarrow(), rows)
            for shard in sorted(shards.iterdir()):
                shard_rows = pq.read_table(shard).combine_chunks()
                empty = pa.RecordBatch.from_pylist([], schema=shard_rows.schema)
                yield from shard_rows.to_batches() or [empty]

    def write_parquet(
        self, tables: Sequence[ir.Table], folder: Path, schema: pa.Schema, rows_per_file: int
    ) -> None:
        """As `Engine.write_parquet`. Rows are numbered, and one executor writes each file."""
        folder.mkdir(parents=True)
        with _user_errors():
            ordered = [self._frame(table).persist() for table in tables]
            numbered, total = _numbered(ordered)
            write = _shard_writer(folder.absolute(), schema, rows_per_file)
            shards = numbered.withColumn(_SHARD, F.expr(f"{_NUMBER} div {rows_per_file}"))
            shards.groupBy(_SHARD).applyInArrow(write, f"{_SHARD} LONG").count()
            for frame in ordered:
                frame.unpersist()
        if total == 0:
            write_shard(schema.empty_table(), schema, shard_path(folder, 0), rows_per_file)

    def run(self, function: Callable[[Job], Result], tasks: Sequence[Job]) -> list[Result]:
        """Run each task on an executor, as a `TaskRunner`."""
        with _user_errors():
            return self._session.sparkContext.parallelize(tasks, max(1, len(tasks))).map(function).collect()

    def _frame(self, table: ir.Table) -> DataFrame:
        """Return a table with the types that Ibis declares. Spark's may be narrower and overflow."""
        frame = self._session.sql(ibis.to_sql(table, dialect="pyspark"))
        return frame.to(PySparkSchema.from_ibis(table.schema()))

    def _viewed(self, frame: DataFrame) -> ir.Table:
        name = next(self._names)
        frame.createOrReplaceTempView(name)
        self._kept[name] = frame
        return self._backend.table(name)

    def _forget(self, name: str) -> None:
        self._kept.pop(name).unpersist()
        self._session.catalog.dropTempView(name)

    def _lines(self, path: Path) -> DataFrame:
        """Return all lines: `LINE`, and its `partition` and `row`, both from 0."""
        text = self._session.read.text(_url(path))
        placed = text.select(
            F.expr("validate_utf8(value)").alias("text"), F.monotonically_increasing_id().alias("id")
        )
        return placed.selectExpr(
            f"nullif(text, '') AS {LINE}",
            f"id div {_PARTITION_ROWS} AS partition",
            f"id % {_PARTITION_ROWS} AS row",
        )


def _session(master: str, scratch: Path, conf: Mapping[str, str]) -> SparkSession:
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)
    is_local = master.startswith("local")
    folders = {"spark.local.dir": str(scratch), "spark.sql.warehouse.dir": str(scratch / "warehouse")}
    settings = _CONF | (_LOCAL_CONF | folders if is_local else {}) | dict(conf) | _FIXED_CONF
    builder = SparkSession.builder.appName("ehr-bert").master(master)
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def _numbered(ordered: Iterable[DataFrame]) -> tuple[DataFrame, int]:
    """Add `_NUMBER`, the position of a row in all frames together, and return the total number of rows."""
    frames, total = [], 0
    for frame in ordered:
        placed = frame.withColumn("__id", F.monotonically_increasing_id())
        partition = F.expr(f"__id div {_PARTITION_ROWS}")
        sizes = dict(placed.groupBy(partition.alias("partition")).count().collect())
        starts = []
        for number in range(max(sizes, default=-1) + 1):
            starts.append(total)
            total += sizes.get(number, 0)
        start = F.get(F.array(*map(F.lit, starts)), partition.cast("int"))
        number = start + F.expr(f"__id % {_PARTITION_ROWS}")
        frames.append(placed.withColumn(_NUMBER, number.cast("long")).drop("__id"))
    together = frames[0]
    for frame in frames[1:]:
        together = together.unionAll(frame)
    return together, total


def _shard_writer(folder: Path, schema: pa.Schema, rows_per_file: int):  # type: ignore[no-untyped-def]
    def write(shard: pa.Table) -> pa.Table:
        number = shard[_SHARD][0].as_py()
        rows = shard.sort_by(_NUMBER).drop_columns([_SHARD, _NUMBER])
        path = shard_path(folder, number)
        # Spark may run a task twice. Each attempt renames a complete file.
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        write_shard(rows, schema, temporary, rows_per_file)
        os.replace(temporary, path)
        return pa.table({_SHARD: pa.array([number], pa.int64())})

    return write


def _url(path: Path) -> str:
    """Return the URL of a local path, with the wildcards of globs escaped."""
    return "file://" + re.sub(r"([\\{}\[\]*?])", r"\\\1", str(path.absolute()))


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[1].lstrip(": ") if isinstance(error, Py4JJavaError) and len(lines) > 1 else lines[0]


@contextmanager
def _user_errors() -> Iterator[None]:
    """Convert Spark's errors about files to one line that does not quote the file."""
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        raise _user_error(error) from error


def _user_error(error: PySparkException | Py4JJavaError) -> UserError:
    text = str(error)
    raised = re.search(r"^ehr_bert\.errors\.UserError: (.+) \[([a-z0-9-]+)\]$", text, re.MULTILINE)
    if raised:
        return UserError(raised[2], raised[1])
    if "INVALID_UTF8_STRING" in text:
        return UserError(
            "not-utf8", "a line of the input is not UTF-8. Convert the file (`iconv -f latin1 -t utf-8`)."
        )
    if "MALFORMED_RECORD" in text:
        return UserError(
            "malformed-line",
            "in a line of a text table, the number of fields differs from the header, or a quote is not "
            "closed. Correct the line.",
        )
    return UserError("spark-failed", f"Spark cannot compute a table: {_first_line(error)}. Check the input.")
