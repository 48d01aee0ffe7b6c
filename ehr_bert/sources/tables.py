"""Raw tables of a store by name, from files in a folder, a DuckDB file, or another database."""

import gzip
import logging
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import ibis
import ibis.expr.types as ir
import pyarrow.parquet as pq
from tqdm import tqdm

from ehr_bert.engines import Engine
from ehr_bert.errors import UserError
from ehr_bert.files import ScratchFolder
from ehr_bert.sources.times import local_times

logger = logging.getLogger(__name__)

_FORMATS = (".parquet", ".csv", ".tsv", ".csv.gz", ".tsv.gz")
"""File formats. If a table exists in several formats, the first of these is read."""

_REMOTE_FILES = ("duckdb", "file", "ftp", "gcs", "gs", "hf", "http", "https", "md", "motherduck", "s3")
"""Schemes of URLs that Ibis would open with DuckDB, which would install extensions to read them."""

_COPIED_ROWS = 1_000_000
"""Rows per batch when a table is copied from a database."""


@dataclass(frozen=True)
class RawTables:
    """Tables of one store, as they are stored.

    Attributes:
        where: Path or URL of the store, for messages.
        readers: Function that returns each table, by lower-case name.
        copy: Copies a table to the engine, if it is stored elsewhere.
        local: Converts the times of a table that have a time zone to texts of the local time.
    """

    where: str
    readers: Mapping[str, Callable[[], ir.Table]]
    copy: Callable[[ir.Table], ir.Table] = lambda table: table
    local: Callable[[ir.Table], ir.Table] = lambda table: table

    def __contains__(self, name: str) -> bool:
        return name in self.readers

    @property
    def only(self) -> str:
        """Name of the only table.

        Raises:
            UserError: There are several tables or none (key `ambiguous-table`).
        """
        if len(self.readers) != 1:
            raise UserError(
                "ambiguous-table",
                f"{self.where} has {len(self.readers)} tables instead of one. Name the table in the file of "
                '--columns: table = "name".',
            )
        return next(iter(self.readers))

    def columns(self, name: str) -> set[str]:
        """Return the lower-case names of the columns of a table.

        Raises:
            UserError: The table is missing (key `missing-table`) or cannot be read (`unreadable-file`).
        """
        return {column.lower() for column in self._stored(name).columns}

    def read(self, name: str, columns: Iterable[str], optional: Iterable[str] = ()) -> ir.Table:
        """Return columns of a table as stripped strings, null if empty, under their lower-case names.

        Args:
            name: Name of the table in lower case.
            columns: Required columns.
            optional: Columns that are null if the table does not have them.

        Raises:
            UserError: The table is missing (key `missing-table`) or cannot be read, or a column is missing
                (`missing-column`).
        """
        stored = self._stored(name)
        names = {column.lower(): column for column in stored.columns}
        missing = [column for column in columns if column not in names]
        if missing:
            raise UserError(
                "missing-column",
                f"{self.where}: the table {name} has no column {', '.join(missing)}. Its columns are "
                f"{', '.join(names)}. Rename or add the column.",
            )
        requested = [*columns, *optional]
        table = self.local(
            self.copy(stored.select(**{to: stored[names[to]] for to in requested if to in names}))
        )
        return table.select(
            **{to: as_text(table[to]) if to in names else ibis.null("string") for to in requested}
        )

    def _stored(self, name: str) -> ir.Table:
        if name not in self.readers:
            raise self.missing(name)
        return self.readers[name]()

    def missing(self, *names: str) -> UserError:
        """Return the error for tables that do not exist (key `missing-table`)."""
        return UserError(
            "missing-table",
            f"{self.where} has no table {', '.join(names)}. Its tables: "
            f"{', '.join(sorted(self.readers)) or 'none'}. Check the path and --from, or add the table.",
        )


@contextmanager
def opened_tables(
    engine: Engine, source: str, scratch: Path, zone: ZoneInfo | None = None
) -> Iterator[RawTables]:
    """Open the tables of a store while the block runs.

    Args:
        engine: Engine that reads the tables.
        source: Folder with CSV, TSV or Parquet files, directly or in subfolders; one such file; a DuckDB
            file; or a URL for `ibis.connect`. From a URL the required columns are copied to `scratch`.
        scratch: Folder on a disk with enough space for the copies.
        zone: Time zone of the days and times, as for `local_times`.

    Raises:
        UserError: The store does not exist (key `missing-file`), or the connection fails
            (`connection-failed`).
    """
    attached = engine.attach(source) if "://" in source or Path(source).is_file() else None
    local = partial(local_times, engine, zone=zone)
    if attached is not None:
        readers = {name.lower(): _constant(table) for name, table in attached.items()}
        yield RawTables(_without_password(source), readers, local=local)
    elif "://" in source:
        with ScratchFolder(scratch, "copied") as folder:
            yield replace(_database_tables(engine, source, folder), local=local)
    else:
        yield replace(_file_tables(engine, Path(source)), local=local)


def _file_tables(engine: Engine, source: Path) -> RawTables:
    if not source.exists():
        raise UserError(
            "missing-file", f"{source} does not exist. Check the path of the folder or file of the store."
        )
    paths = [*source.iterdir(), *source.glob("*/*")] if source.is_dir() else [source]
    files: dict[str, tuple[tuple[int, int, str], Path]] = {}
    for path in paths:
        name, table_format = _split_name(path)
        if table_format is not None:
            rank = (len(path.parts), _FORMATS.index(table_format), str(path))
            files[name] = min(files.get(name, (rank, path)), (rank, path))
    return RawTables(
        str(source), {name: partial(_read_file, engine, path) for name, (_, path) in files.items()}
    )


def _split_name(path: Path) -> tuple[str, str | None]:
    """Return the lower-case name of a table and its format. A folder of Parquet files counts as one file."""
    name = path.name.lower()
    if path.is_dir():
        return name.removesuffix(".parquet"), ".parquet" if any(path.rglob("*.parquet")) else None
    ending = next((ending for ending in _FORMATS if name.endswith(ending)), None)
    return name.removesuffix(ending or ""), ending


def _read_file(engine: Engine, path: Path) -> ir.Table:
    if path.is_dir() or path.suffix.lower() == ".parquet":
        return engine.read_parquet(path)
    separator = _separator(path)
    return engine.read_csv(path, separator, quote="" if separator == "\t" else '"')


def _separator(path: Path) -> str:
    """Return the separator of the header. OHDSI's vocabularies end in `.csv` but have tabs."""
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
        header = file.readline(1 << 20)
    return max("\t", ";", ",", key=lambda separator: header.count(separator.encode()))


def _database_tables(engine: Engine, url: str, folder: Path) -> RawTables:
    where = _without_password(url)
    scheme = url.partition("://")[0]
    if scheme in _REMOTE_FILES:
        raise UserError(
            "unsupported-url",
            f"{where} cannot be read: {scheme}:// is not a database server. Copy its files to this machine "
            "and give their path, or name a file in .duckdb, .ddb or .db.",
        )
    try:
        database = ibis.connect(url)
        names = database.list_tables()
    except Exception as error:  # Each backend has its own exceptions.
        raise UserError(
            "connection-failed",
            f"cannot connect to {where}: {_first_line(error, url)}. "
            f"Check the URL, and install the Ibis backend: pip install 'ibis-framework[{scheme}]'.",
        ) from error

    def copy(table: ir.Table) -> ir.Table:
        path = Path(tempfile.mkdtemp(dir=folder)) / "copied.parquet"
        try:
            with (
                table.to_pyarrow_batches(chunk_size=_COPIED_ROWS) as batches,
                pq.ParquetWriter(path, batches.schema) as writer,
            ):
                for batch in tqdm(
                    batches, "copying", unit="batch", disable=not logger.isEnabledFor(logging.INFO)
                ):
                    writer.write_batch(batch)
        except Exception as error:
            raise UserError(
                "unreadable-table",
                f"cannot read a table of {where}: {_first_line(error, url)}. Check the connection and the "
                "permissions.",
            ) from error
        return engine.read_parquet(path)

    return RawTables(where, {name.lower(): partial(database.table, name) for name in names}, copy)


def _constant(table: ir.Table) -> Callable[[], ir.Table]:
    return lambda: table


def as_text(column: ir.Column) -> ir.StringValue:
    """Return a column as stripped strings, null if empty. Integers in a column of floats have no decimals.

    NaN is null: it is how exports write a missing value in a column of floats.
    """
    text = column.cast("string")
    if column.type().is_floating():
        # The text is compared: DuckDB takes a column of Parquet for free of NaN, which its statistics omit.
        integer = column.try_cast("int64")
        is_integer = (integer.cast("float64") == column).fill_null(False)
        text = ibis.cases(
            (text.lower() == "nan", ibis.null("string")), (is_integer, integer.cast("string")), else_=text
        )
    return text.strip().nullif("")


def _without_password(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url)


def _first_line(error: Exception, url: str) -> str:
    return (
        (str(error) or type(error).__name__).splitlines()[0].rstrip(".").replace(url, _without_password(url))
    )


def without_decimals(number: ir.StringValue) -> ir.StringValue:
    """Return an integer's text without `.0`, which exports of columns with nulls add."""
    return number.re_replace("[.]0+$", "")
