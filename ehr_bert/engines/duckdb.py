"""DuckDB in this process, the default engine. Data that exceed its memory limit are spilled to disk."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import TracebackType

import duckdb
import ibis
import ibis.expr.types as ir
import pyarrow as pa

from ehr_bert.engines.engine import LINE, LINE_NUMBER, csv_columns, parquet_files
from ehr_bert.engines.shards import shard_path, write_shard
from ehr_bert.errors import UserError
from ehr_bert.files import ScratchFolder
from ehr_bert.logs import warn

logger = logging.getLogger(__name__)

_NO_DELIMITER = "\x1f\x1e\x1f\x1e"
"""Delimiter that occurs in no line, so that the CSV reader returns complete lines."""

_AGGREGATED_BYTES = 150
"""Memory per row while lists per patient are aggregated, which DuckDB cannot spill."""

_SAMPLED_ROWS = 100_000
"""Number of sampled rows from which `parts` estimates its ranges."""

_DATABASE_SUFFIXES = (".duckdb", ".ddb", ".db")
"""File name extensions of DuckDB databases."""

_OFFLINE = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
}
"""Configuration of every connection: DuckDB downloads and loads no extension by itself."""

_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


class DuckDBEngine:
    """An `Engine` on an in-memory DuckDB database, which spills to a temporary folder.

    The engine is a context manager. Leaving it closes the database and removes the folder.

    Args:
        scratch: Parent of the temporary folder, on a disk with enough space for the input.
        memory_limit: Memory limit as in DuckDB, such as `8GB`. The default is 80% of the machine's memory.
        threads: Number of threads. The default is one per core.

    Raises:
        UserError: DuckDB does not accept the memory limit or the number of threads (key
            `invalid-engine-setting`).
    """

    def __init__(self, scratch: Path, memory_limit: str | None = None, threads: int | None = None) -> None:
        self._folder = ScratchFolder(scratch, "duckdb")
        self._names = (f"table_{number}" for number in count())
        settings = {
            "temp_directory": str(self._folder.path),
            **_OFFLINE,
            "memory_limit": memory_limit,
            "threads": threads,
        }
        try:
            self._backend = ibis.duckdb.connect(
                **{name: value for name, value in settings.items() if value is not None}
            )
        except duckdb.Error as error:
            self._folder.remove()
            raise UserError(
                "invalid-engine-setting",
                f"DuckDB does not accept {', '.join(_given(memory_limit, threads))}: {_first_line(error)}. "
                "Write a memory limit such as 8GB.",
            ) from error
        # The result of a query must not depend on the time zone of the machine.
        self._backend.con.execute("SET TimeZone = 'UTC'")
        self._backend.con.execute("SET lock_configuration = true")

    def __enter__(self) -> "DuckDBEngine":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._backend.disconnect()
        self._folder.remove()

    def read_lines(self, path: Path) -> ir.Table:
        """As `Engine.read_lines`."""
        with _user_errors():
            return self._backend.read_csv(
                _literal(path),
                columns={LINE: "VARCHAR"},
                header=False,
                skip=1,
                delim=_NO_DELIMITER,
                quote="",
                escape="",
                strict_mode=False,
            )

    def read_numbered_lines(self, path: Path) -> ir.Table:
        """As `Engine.read_numbered_lines`. By default DuckDB keeps the order of a file."""
        return self.read_lines(path).mutate(**{LINE_NUMBER: ibis.row_number() + 2})

    def read_parquet(self, path: Path) -> ir.Table:
        """As `Engine.read_parquet`."""
        with _user_errors():
            return _with_known_types(
                self._backend.read_parquet([_literal(file) for file in parquet_files(path)])
            )

    def read_csv(self, path: Path, separator: str = ",", quote: str = '"') -> ir.Table:
        """As `Engine.read_csv`."""
        columns = csv_columns(path, separator, quote)
        with _user_errors():
            return self._backend.read_csv(
                _literal(path),
                columns=dict.fromkeys(columns, "VARCHAR"),
                header=True,
                auto_detect=False,
                delim=separator,
                quote=quote,
                escape=quote,
            )

    def attach(self, url: str) -> Mapping[str, ir.Table] | None:
        """As `Engine.attach`, for `duckdb://` URLs and paths of DuckDB files.

        A view that reads other files than the database is left out with a warning (key `view-reads-files`).
        """
        location = url.removeprefix("duckdb://")
        path = Path(location)
        if "://" in location or path.suffix not in _DATABASE_SUFFIXES:
            return None
        catalog = next(self._names)
        with _user_errors():
            names = _tables_of_database(path)
            self._backend.con.execute(_attach_statement(path, catalog))
            return {
                name: _with_known_types(self._backend.table(name, database=(catalog, schema)))
                for schema, name in names
            }

    def zoned_columns(self, table: ir.Table) -> list[str]:
        """As `Engine.zoned_columns`."""
        return [
            name for name, kind in table.schema().items() if kind.is_timestamp() and kind.timezone is not None
        ]

    def load(self, table: pa.Table) -> ir.Table:
        """As `Engine.load`, without copying the rows."""
        name = next(self._names)
        self._backend.con.register(name, table)
        return self._backend.table(name)

    def materialise(self, table: ir.Table) -> ir.Table:
        """As `Engine.materialise`."""
        with _user_errors():
            return self._backend.create_table(next(self._names), table, temp=True)

    def drop(self, table: ir.Table) -> None:
        """As `Engine.drop`."""
        self._backend.con.execute(f"DROP TABLE {table.get_name()}")

    def parts(self, table: ir.Table, column: str) -> list[ir.Table]:
        """As `Engine.parts`. The aggregation of a part fits within the memory limit."""
        rows = self.collect(table.aggregate(rows=table.count()))["rows"][0].as_py()
        parts = -(-rows * _AGGREGATED_BYTES // self._memory_bytes())
        if parts < 2:
            return [table]
        sample = table.select(column).sample(min(1.0, _SAMPLED_ROWS / rows), seed=0)
        values = sorted(self.collect(sample)[column].to_pylist())
        cuts = sorted({values[len(values) * part // parts] for part in range(1, parts)})
        value = table[column]
        return [
            table.filter(
                *([value >= low] if low is not None else []), *([value < high] if high is not None else [])
            )
            for low, high in zip([None, *cuts], [*cuts, None], strict=True)
        ]

    def collect(self, table: ir.Table) -> pa.Table:
        """As `Engine.collect`."""
        with _user_errors():
            return self._query(table).to_arrow_table().cast(table.schema().to_pyarrow())

    def batches(self, tables: Sequence[ir.Table], rows: int) -> Iterator[pa.RecordBatch]:
        """As `Engine.batches`."""
        pending: list[pa.RecordBatch] = []
        missing = rows
        is_empty = True
        for batch in self._streamed(tables, rows):
            is_empty = False
            while batch.num_rows >= missing:
                yield _concatenated([*pending, batch.slice(0, missing)])
                batch, pending, missing = batch.slice(missing), [], rows
            if batch.num_rows:
                pending.append(batch)
                missing -= batch.num_rows
        if pending:
            yield _concatenated(pending)
        if is_empty:
            yield pa.RecordBatch.from_pylist([], schema=tables[0].schema().to_pyarrow())

    def write_parquet(
        self, tables: Sequence[ir.Table], folder: Path, schema: pa.Schema, rows_per_file: int
    ) -> None:
        """As `Engine.write_parquet`."""
        folder.mkdir(parents=True)
        for number, batch in enumerate(self.batches(tables, rows_per_file)):
            write_shard(pa.Table.from_batches([batch]), schema, shard_path(folder, number), rows_per_file)

    def _streamed(self, tables: Sequence[ir.Table], rows: int) -> Iterator[pa.RecordBatch]:
        for table in tables:
            with _user_errors():
                yield from self._query(table).to_arrow_reader(rows)

    def _query(self, table: ir.Table) -> duckdb.DuckDBPyRelation:
        return self._backend.con.sql(ibis.to_sql(table, dialect="duckdb"))

    def _memory_bytes(self) -> int:
        (setting,) = self._backend.con.execute("SELECT current_setting('memory_limit')").fetchall()[0]
        number, unit = setting.split()
        return int(float(number) * _UNITS[unit])


def _tables_of_database(path: Path) -> list[tuple[str, str]]:
    """Return the schema and name of each table and view in a DuckDB file that reads no other file."""
    with duckdb.connect(config=_OFFLINE) as connection:
        files = ", ".join(_quoted(f"{path.absolute()}{suffix}") for suffix in ("", ".wal"))
        connection.execute(f"SET allowed_paths = [{files}]")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        connection.execute(_attach_statement(path, "foreign_database"))
        names = connection.execute(
            "SELECT table_schema, table_name FROM information_schema.tables "
            "WHERE table_catalog = 'foreign_database'"
        ).fetchall()
        return [name for name in names if _reads_no_other_file(connection, path, name)]


def _reads_no_other_file(connection: duckdb.DuckDBPyConnection, path: Path, name: tuple[str, str]) -> bool:
    qualified = ".".join('"' + part.replace('"', '""') + '"' for part in ("foreign_database", *name))
    try:
        connection.execute(f"DESCRIBE SELECT * FROM {qualified}")
    except duckdb.PermissionException:
        warn(
            logger,
            "view-reads-files",
            f"{path}: the view {name[1]} reads other files and is left out. Copy its rows to a table.",
        )
        return False
    return True


def _attach_statement(path: Path, catalog: str) -> str:
    """Return the statement that opens a DuckDB file under the name `catalog`.

    Raises:
        UserError: DuckDB would open another file, since the path has `?` or a backslash (key
            `unsupported-path`).
    """
    if re.search(r"[?\\]", str(path.absolute())):
        raise UserError(
            "unsupported-path",
            f"DuckDB cannot open {path.absolute()}, because its path contains ? or a backslash. Rename it.",
        )
    return f"ATTACH {_quoted(str(path.absolute()))} AS {catalog} (TYPE duckdb, READ_ONLY)"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _literal(path: Path) -> str:
    """Return a path for DuckDB's readers, which take `*`, `?` and `[` for wildcards.

    Raises:
        UserError: The path has wildcards and a backslash, with which DuckDB cannot escape them (key
            `unsupported-path`).
    """
    text = str(path.absolute())
    escaped = re.sub(r"([*?\[])", r"[\1]", text)
    if escaped != text and "\\" in text:
        raise UserError(
            "unsupported-path",
            f"DuckDB cannot read {text}, because its path contains a backslash and one of *?[. Rename it.",
        )
    return escaped


def _concatenated(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]


def _given(memory_limit: str | None, threads: int | None) -> Iterator[str]:
    """Yield the options that are given, for messages."""
    if memory_limit is not None:
        yield f"--memory-limit {memory_limit}"
    if threads is not None:
        yield f"--threads {threads}"


def _with_known_types(table: ir.Table) -> ir.Table:
    """Convert types of DuckDB that Ibis does not know: zoned times of nanoseconds, and columns of nulls."""
    types = {name: str(kind) for name, kind in table.schema().items() if kind.is_unknown()}
    known = {
        name: table[name].cast("timestamp('UTC')" if "TIMESTAMPTZ_NS" in kind else "string")
        for name, kind in types.items()
        if "TIMESTAMPTZ_NS" in kind or '"NULL"' in kind
    }
    return table.mutate(**known) if known else table


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")


@contextmanager
def _user_errors() -> Iterator[None]:
    """Convert DuckDB's errors about files and memory to one line that does not quote the file."""
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise UserError(
            "out-of-memory", "DuckDB needs more memory for this table. Raise --memory-limit."
        ) from error
    except duckdb.InvalidInputException as error:
        line = re.search(r"CSV Error on Line: (\d+)", str(error))
        path = re.search(r"^ *file = (.+)$", str(error), re.MULTILINE)
        if line is None or path is None:
            raise UserError(
                "unreadable-file", f"DuckDB cannot read the input: {_first_line(error)}. Check the file."
            ) from error
        place = f"{path[1]}, line {line[1]}"
        if re.search("^(Expected Number of Columns|Value with unterminated quote)", str(error), re.MULTILINE):
            raise UserError(
                "malformed-line",
                f"{place}: the number of fields differs from the header, or a quote is not closed. "
                "Correct the line.",
            ) from error
        raise UserError(
            "not-utf8",
            f"{place}: not UTF-8, or longer than 2 MB. Convert the file (`iconv -f latin1 -t utf-8`), or "
            "correct the line.",
        ) from error
    except duckdb.IOException as error:
        raise UserError(
            "unreadable-file",
            f"DuckDB cannot read or write a file: {_first_line(error)}. Check that the path exists, the file "
            "is complete, and the disk has free space.",
        ) from error
    except duckdb.InterruptException as error:
        raise KeyboardInterrupt from error
    except (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException):
        raise  # an error in a query of this program, not in the data
    except duckdb.Error as error:
        raise UserError(
            "unreadable-file",
            f"DuckDB cannot read the input, which is probably damaged: {_first_line(error)}. Copy it again.",
        ) from error
    except RuntimeError as error:
        if str(error) == "Query interrupted":  # DuckDB's error after Ctrl-C
            raise KeyboardInterrupt from error
        raise
