"""The raw tables of a store, by name: files in a folder, a DuckDB file, or what Ibis connects to."""

import gzip
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow.parquet as pq
from tqdm import tqdm

from ehr_bert.engines import Engine
from ehr_bert.errors import UserError

_FORMATS = (".parquet", ".csv", ".tsv", ".csv.gz", ".tsv.gz")
"""Of two files of one name the one whose format stands first is read."""

_COPIED_ROWS = 1_000_000
"""Rows in a batch on the way from a database to the engine."""


@dataclass(frozen=True)
class Tables:
    """The tables of one store.

    Attributes:
        where: What the user calls the store, for messages.
        readers: By lower-case name, what gives the table as it is stored.
        bring: Takes a table to where it is computed on.
    """

    where: str
    readers: Mapping[str, Callable[[], ir.Table]]
    bring: Callable[[ir.Table], ir.Table] = lambda table: table

    def __contains__(self, name: str) -> bool:
        return name in self.readers

    @property
    def only(self) -> str:
        """The name of the one table.

        Raises:
            UserError: there are others.
        """
        if len(self.readers) != 1:
            raise UserError(f"{self.where} has {len(self.readers)} tables: name the one to read")
        return next(iter(self.readers))

    def columns(self, name: str) -> set[str]:
        """The lower-case names of a table's columns.

        Raises:
            UserError: the table lacks or can't be read.
        """
        return {column.lower() for column in self._stored(name).columns}

    def read(self, name: str, columns: Iterable[str], optional: Iterable[str] = ()) -> ir.Table:
        """Columns of a table as strings, stripped, null if empty, under their lower-case names.

        Args:
            name: Of the table, in lower case.
            columns: What it must have.
            optional: What is null where it lacks.

        Raises:
            UserError: the table lacks or can't be read, or a column lacks.
        """
        stored = self._stored(name)
        names = {column.lower(): column for column in stored.columns}
        missing = [column for column in columns if column not in names]
        if missing:
            raise UserError(
                f"{self.where}: table {name} has no column {', '.join(missing)}, only "
                f"{', '.join(names)}: rename or add it"
            )
        wanted = [*columns, *optional]
        brought = self.bring(stored.select(**{to: stored[names[to]] for to in wanted if to in names}))
        return brought.select(
            **{to: _text(brought[to]) if to in names else ibis.null("string") for to in wanted}
        )

    def _stored(self, name: str) -> ir.Table:
        if name not in self.readers:
            raise UserError(
                f"{self.where} has no table {name}, only {', '.join(sorted(self.readers)) or 'none'}: "
                "name the store that holds it, or add it"
            )
        return self.readers[name]()


@contextmanager
def opened(engine: Engine, source: str, scratch: Path) -> Iterator[Tables]:
    """The tables of a store, while the block runs.

    Args:
        engine: What reads them.
        source: A folder of CSV, TSV or Parquet, in it or in its folders; one such file; a DuckDB file; or
            a URL that `ibis.connect` takes, from which the columns in use are copied to `scratch`.
        scratch: A folder on a disk with room for them.

    Raises:
        UserError: there is no such store.
    """
    attached = engine.attach(source) if "://" in source or Path(source).is_file() else None
    if attached is not None:
        yield Tables(_without_password(source), {name.lower(): _given(attached[name]) for name in attached})
    elif "://" in source:
        with tempfile.TemporaryDirectory(prefix=".copied-", dir=scratch) as folder:
            yield _of_database(engine, source, Path(folder))
    else:
        yield _of_files(engine, Path(source))


def _of_files(engine: Engine, source: Path) -> Tables:
    if not source.exists():
        raise UserError(f"{source} doesn't exist: name the folder or file of the store")
    paths = [*source.iterdir(), *source.glob("*/*")] if source.is_dir() else [source]
    found: dict[str, tuple[tuple[int, int, str], Path]] = {}
    for path in paths:
        name, table_format = _split_name(path)
        if table_format is not None:
            rank = (len(path.parts), _FORMATS.index(table_format), str(path))
            found[name] = min(found.get(name, (rank, path)), (rank, path))
    return Tables(str(source), {name: partial(_read_file, engine, path) for name, (_, path) in found.items()})


def _split_name(path: Path) -> tuple[str, str | None]:
    """The lower-case name of a table, and the format of its file; a folder of Parquet counts as a file."""
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
    """The separator that the header shows; OHDSI's vocabularies are parted by tabs, though called `.csv`."""
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
        header = file.readline(1 << 20)
    return max("\t", ";", ",", key=lambda separator: header.count(separator.encode()))


def _of_database(engine: Engine, url: str, folder: Path) -> Tables:
    where = _without_password(url)
    try:
        database = ibis.connect(url)
        names = database.list_tables()
    except Exception as error:  # Every backend has its own errors.
        raise UserError(f"{where}: no connection: {_first_line(error, url)}") from error

    def bring(table: ir.Table) -> ir.Table:
        path = Path(tempfile.mkdtemp(dir=folder)) / "copied.parquet"
        try:
            with (
                table.to_pyarrow_batches(chunk_size=_COPIED_ROWS) as batches,
                pq.ParquetWriter(path, batches.schema) as writer,
            ):
                for batch in tqdm(batches, desc="copying", unit="batch"):
                    writer.write_batch(batch)
        except Exception as error:
            raise UserError(f"{where}: can't be read: {_first_line(error, url)}") from error
        return engine.read_parquet(path)

    return Tables(where, {name.lower(): partial(database.table, name) for name in names}, bring)


def _given(table: ir.Table) -> Callable[[], ir.Table]:
    return lambda: table


def _text(column: ir.Column) -> ir.StringValue:
    """As a string; a whole number in a column of floats, which is what gaps make of integers, has no dot."""
    text = column.cast("string")
    if column.type().is_floating():
        text = ibis.ifelse(column == column.floor(), column.cast("int64").cast("string"), text)
    return text.strip().nullif("")


def _without_password(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url)


def _first_line(error: Exception, url: str) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].replace(url, _without_password(url))


def whole(number: ir.StringValue) -> ir.StringValue:
    """An integer's text without the `.0` that a column with gaps leaves behind it."""
    return number.re_replace("[.]0+$", "")
