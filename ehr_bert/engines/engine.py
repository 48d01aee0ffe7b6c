"""What every engine offers; the expressions themselves are Ibis and the same on all of them."""

import csv
import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import ibis.expr.types as ir
import pyarrow as pa

from ehr_bert.errors import UserError

LINE = "line"
"""The column that holds a line of a text file, without its end; null for an empty line."""

LINE_NUMBER = "line_number"
"""The column that holds a line's number in its file, from 1, the header included."""


def csv_columns(path: Path, separator: str, quote: str) -> list[str]:
    """The names in the header of a text file, `.gz` too.

    Raises:
        UserError: the file can't be read, has no header, or names a column twice.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            header = file.readline(1 << 20).decode("utf-8-sig").rstrip("\r\n")
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} can't be read: {error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}, line 1: not UTF-8: is this a text file?") from error
    if quote:
        names = next(csv.reader([header], delimiter=separator, quotechar=quote), [])
    else:
        names = header.split(separator)
    if not any(names):
        raise UserError(f"{path}, line 1: empty, where the names of the columns must be")
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise UserError(f"{path}, line 1: two columns are called {', '.join(sorted(twice))}: rename one")
    return names


def check_holds_parquet(path: Path) -> None:
    """Refuses a folder without a Parquet file.

    Raises:
        UserError: it is one.
    """
    if path.is_dir() and not any(path.rglob("*.parquet")):
        raise UserError(f"{path} holds no Parquet file: name the folder or file of a table")


class Engine(Protocol):
    """Runs Ibis expressions. All but `read_*` may raise `UserError` for a fault in the data being read."""

    def read_lines(self, path: Path) -> ir.Table:
        """The lines of a text file after its first, as column `LINE`, in no order. A `.gz` is unpacked."""

    def read_numbered_lines(self, path: Path) -> ir.Table:
        """As `read_lines`, with `LINE_NUMBER`: slower, since the lines are counted in order."""

    def read_parquet(self, path: Path) -> ir.Table:
        """The rows of a Parquet file, or of all Parquet files in a folder."""

    def read_csv(self, path: Path, separator: str = ",", quote: str = '"') -> ir.Table:
        """The rows of a text file with a header, every column a string; a `.gz` is unpacked.

        An empty field is null or empty. Without a quote character (`""`) quotes are plain characters.
        """

    def attach(self, url: str) -> Mapping[str, ir.Table] | None:
        """The tables of a database, by name, if this engine can read them where they are; else None."""

    def load(self, table: pa.Table) -> ir.Table:
        """Takes a small table in."""

    def materialise(self, table: ir.Table) -> ir.Table:
        """Computes a table once and keeps it until `drop`."""

    def drop(self, table: ir.Table) -> None:
        """Frees what `materialise` keeps."""

    def parts(self, table: ir.Table, column: str) -> list[ir.Table]:
        """Cuts a table into ascending ranges of a string column, each small enough to be aggregated."""

    def collect(self, table: ir.Table) -> pa.Table:
        """Computes a small table and brings it here."""

    def batches(self, tables: Sequence[ir.Table], rows: int) -> Iterator[pa.RecordBatch]:
        """Streams tables of one schema one after the other, each in its order.

        Every batch has `rows` rows, but for the last; without any rows there is one empty batch.
        """

    def write_parquet(
        self, tables: Sequence[ir.Table], folder: Path, schema: pa.Schema, rows_per_file: int
    ) -> None:
        """Writes tables one after the other, each in its order, as Parquet files whose names sort so too.

        Every file has `rows_per_file` rows, but for the last; without any rows there is one empty file.
        """
