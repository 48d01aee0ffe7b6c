"""What a run writes in Parquet: shards of sequences, and the rejected rows."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ehr_bert.schemas import REJECTED, SEQUENCES

_ROW_GROUP_PATIENTS = 10_000


def write_shards(batches: Iterable[pa.RecordBatch], folder: Path) -> None:
    """Writes each batch of `SEQUENCES` as a Parquet file of its own."""
    folder.mkdir(parents=True)
    for number, batch in enumerate(batches):
        shard = pa.Table.from_batches([batch]).cast(SEQUENCES)
        pq.write_table(shard, folder / f"{number:05d}.parquet", row_group_size=_ROW_GROUP_PATIENTS)


def write_rejected(batches: Iterable[pa.RecordBatch], path: Path) -> None:
    """Writes batches of `REJECTED` as one Parquet file."""
    with pq.ParquetWriter(path, REJECTED) as writer:
        for batch in batches:
            writer.write_table(pa.Table.from_batches([batch]).cast(REJECTED))
