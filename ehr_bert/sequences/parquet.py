"""Writing of rejected rows as Parquet."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ehr_bert.schemas import REJECTED


def write_rejected(batches: Iterable[pa.RecordBatch], path: Path) -> None:
    """Write batches of `REJECTED` to one Parquet file."""
    with pq.ParquetWriter(path, REJECTED) as writer:
        for batch in batches:
            writer.write_table(pa.Table.from_batches([batch]).cast(REJECTED))
