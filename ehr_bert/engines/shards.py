"""Parquet files with a fixed number of rows. Every engine writes the same bytes."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_ROW_GROUPS = 5
"""Row groups in a full file."""


def shard_path(folder: Path, number: int) -> Path:
    """Return the path of a shard in a folder. Numbers start at 0."""
    return folder / f"{number:05d}.parquet"


def write_shard(rows: pa.Table, schema: pa.Schema, path: Path, rows_per_file: int) -> None:
    """Write one file. `rows_per_file` is the number of rows of a full file."""
    table = rows.combine_chunks().cast(schema)
    pq.write_table(table, path, row_group_size=-(-rows_per_file // _ROW_GROUPS))
