"""Files that parallel processes write by chunks of patients."""

import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_PARTS = "parts"
"""Folder of the parts of joined files, while they are written."""

_COPIED_BYTES = 1 << 24
"""Bytes that are copied at a time."""


@dataclass(frozen=True)
class ChunkFiles:
    """Where one chunk of patients is written.

    Attributes:
        folder: The folder of the data set.
        number: Number of the chunk.
    """

    folder: Path
    number: int

    def write_table(self, folder: str, table: pa.Table) -> None:
        """Write a table as one more Parquet file of a folder of such files."""
        self._write(self.folder / folder, ".parquet", table)

    def write_part(self, file: str, table: pa.Table) -> None:
        """Write a table as a part of one Parquet file."""
        self._write(self.folder / _PARTS / file, "", table)

    def text_part(self, file: str) -> Path:
        """Return the path of a part of one text file, for the caller to write."""
        path = self.folder / _PARTS / file / f"{self.number:05d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _write(self, folder: Path, suffix: str, table: pa.Table) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, folder / f"{self.number:05d}{suffix}")


class JoinedFiles:
    """Joins the parts of all chunks, one chunk after the other. A context manager that closes the files.

    Args:
        folder: The folder of the data set.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open = ExitStack()
        self._tables: dict[Path, pq.ParquetWriter] = {}

    def __enter__(self) -> "JoinedFiles":
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()
        shutil.rmtree(self._folder / _PARTS, ignore_errors=True)

    def add(self, number: int) -> None:
        """Append the parts of a chunk to their files, and remove them."""
        for part in sorted((self._folder / _PARTS).glob(f"*/{number:05d}")):
            file = self._folder / part.parent.name
            (self._append_table if file.suffix == ".parquet" else _append_text)(file, part)
            part.unlink()

    def _append_table(self, file: Path, part: Path) -> None:
        table = pq.read_table(part)
        if file not in self._tables:
            self._tables[file] = self._open.enter_context(pq.ParquetWriter(file, table.schema))
        self._tables[file].write_table(table)


def _append_text(file: Path, part: Path) -> None:
    with open(file, "ab") as target, open(part, "rb") as source:
        shutil.copyfileobj(source, target, _COPIED_BYTES)
