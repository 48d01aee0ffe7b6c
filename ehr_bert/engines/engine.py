"""Interface of the engines. The expressions are Ibis and the same on every engine."""

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
"""Column with a line of a text file, without its line ending. It is null for an empty line."""

LINE_NUMBER = "line_number"
"""Column with the number of a line in its file. Numbers start at 1 and include the header."""


_HEADER_BYTES = 1 << 20
"""Maximum length of a header."""


def header_line(path: Path) -> str:
    """Return the first line of a plain or gzipped text file, without its line ending.

    Raises:
        UserError: The file cannot be read (key `unreadable-file`), is not UTF-8 (`not-utf8`), or its first
            line is blank (`missing-header`).
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            header = file.readline(_HEADER_BYTES).decode("utf-8-sig").rstrip("\r\n")
    except (OSError, EOFError, zlib.error) as error:
        raise UserError("unreadable-file", f"cannot read {path}: {error}. Check the file.") from error
    except UnicodeDecodeError as error:
        raise UserError("not-utf8", f"{path}, line 1: not UTF-8. Check that this is a text table.") from error
    if not header.strip():
        raise UserError("missing-header", f"{path}, line 1: empty. Add a line with column names.")
    return header


def csv_columns(path: Path, separator: str, quote: str) -> list[str]:
    """Return the column names in the header of a plain or gzipped text file.

    Raises:
        UserError: The header cannot be read (see `header_line`), is empty (key `missing-header`), or names a
            column twice (`duplicate-column`).
    """
    header = header_line(path)
    if quote:
        names = next(csv.reader([header], delimiter=separator, quotechar=quote), [])
    else:
        names = header.split(separator)
    if not any(names):
        raise UserError("missing-header", f"{path}, line 1: no column has a name. Add column names.")
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise UserError(
            "duplicate-column",
            f"{path}, line 1: several columns are named {', '.join(duplicates)}. Rename all but one.",
        )
    return names


def parquet_files(path: Path) -> list[Path]:
    """Return a Parquet file, or all Parquet files in a folder and its subfolders, sorted.

    Raises:
        UserError: The folder contains none (key `no-parquet-file`).
    """
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.rglob("*.parquet") if file.is_file())
    if not files:
        raise UserError(
            "no-parquet-file", f"{path} contains no Parquet file. Choose the folder or file of a table."
        )
    return files


class Engine(Protocol):
    """Runs Ibis expressions.

    All methods except `read_*` may raise a `UserError` for an error in the data that they read.
    """

    def read_lines(self, path: Path) -> ir.Table:
        """Return the lines of a plain or gzipped text file after the first, as column `LINE`, unordered."""

    def read_numbered_lines(self, path: Path) -> ir.Table:
        """Return the lines as `read_lines` does, with `LINE_NUMBER`. This is slower."""

    def read_parquet(self, path: Path) -> ir.Table:
        """Return the rows of a Parquet file, or of all Parquet files in a folder."""

    def read_csv(self, path: Path, separator: str = ",", quote: str = '"') -> ir.Table:
        """Return the rows of a plain or gzipped text file with a header. Every column is a string.

        An empty field is null or empty. If `quote` is empty, quotes are plain characters.
        """

    def attach(self, url: str) -> Mapping[str, ir.Table] | None:
        """Return the tables of a database by name, or None if this engine cannot read it in place."""

    def zoned_columns(self, table: ir.Table) -> list[str]:
        """Return the columns of type timestamp with time zone. As a string they are in UTC."""

    def load(self, table: pa.Table) -> ir.Table:
        """Make a small table available to the engine."""

    def materialise(self, table: ir.Table) -> ir.Table:
        """Compute a table once, and keep it until `drop`."""

    def drop(self, table: ir.Table) -> None:
        """Free a table that `materialise` returned."""

    def parts(self, table: ir.Table, column: str) -> list[ir.Table]:
        """Split a table into ascending ranges of a string column, each small enough for an aggregation."""

    def collect(self, table: ir.Table) -> pa.Table:
        """Compute a small table and return it in memory."""

    def batches(self, tables: Sequence[ir.Table], rows: int) -> Iterator[pa.RecordBatch]:
        """Stream tables of one schema one after the other, each in its order.

        Every batch but the last has `rows` rows. If there are no rows, there is one empty batch.
        """

    def write_parquet(
        self, tables: Sequence[ir.Table], folder: Path, schema: pa.Schema, rows_per_file: int
    ) -> None:
        """Write tables one after the other, each in its order, to numbered Parquet files.

        Every file but the last has `rows_per_file` rows. If there are no rows, there is one empty file.
        """
