"""What every engine offers; the expressions themselves are Ibis and the same on all of them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import ibis.expr.types as ir
import pyarrow as pa

LINE = "line"
"""The column that holds a line of a text file, without its end; null for an empty line."""

LINE_NUMBER = "line_number"
"""The column that holds a line's number in its file, from 1, the header included."""


class Engine(Protocol):
    """Runs Ibis expressions. All but `read_*` may raise `UserError` for a fault in the data being read."""

    def read_lines(self, path: Path) -> ir.Table:
        """The lines of a text file after its first, as column `LINE`, in no order. A `.gz` is unpacked."""

    def read_numbered_lines(self, path: Path) -> ir.Table:
        """As `read_lines`, with `LINE_NUMBER`: slower, since the lines are counted in order."""

    def read_parquet(self, path: Path) -> ir.Table:
        """The rows of a Parquet file, or of all Parquet files in a folder."""

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
