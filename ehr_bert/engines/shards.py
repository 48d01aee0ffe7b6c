"""Tables as Parquet files of so many rows each: the same bytes, whoever computes the rows."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_GROUPS = 5
"""Row groups in a whole file."""


def shard_path(folder: Path, number: int) -> Path:
    """Where a folder keeps the shard of a number, from 0."""
    return folder / f"{number:05d}.parquet"


def write_shard(rows: pa.Table, schema: pa.Schema, path: Path, rows_per_file: int) -> None:
    """Writes one file; `rows_per_file` is what a whole one holds."""
    whole = rows.combine_chunks().cast(schema)
    pq.write_table(whole, path, row_group_size=-(-rows_per_file // _GROUPS))
