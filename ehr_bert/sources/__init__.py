"""Readers of stores and event tables. Every row is checked."""

from pathlib import Path

from ehr_bert.engines import Engine
from ehr_bert.errors import UserError
from ehr_bert.sources.checks import CheckedEvents
from ehr_bert.sources.extraction import is_extracted_folder, read_extracted_folder
from ehr_bert.sources.parquet import read_event_parquet
from ehr_bert.sources.tutorial import read_tutorial_table

__all__ = ["CheckedEvents", "read_event_parquet", "read_events", "read_tutorial_table"]


def read_events(engine: Engine, path: Path) -> CheckedEvents:
    """Read an event table. A diagnosis table is one.

    A folder that `extract` wrote, another folder, or a path that ends in `.parquet` is read as Parquet. Any
    other file is read as the TSV of the Med-BERT tutorial.

    Raises:
        UserError: The table does not exist (key `missing-file`), cannot be read (`unreadable-file`), or is
            not an event table (`missing-column`, `wrong-column-count`, `missing-header`).
    """
    if not path.exists():
        raise UserError("missing-file", f"{path} does not exist. Check the path of the table.")
    if is_extracted_folder(path):
        return read_extracted_folder(engine, path)
    if path.is_dir() or path.suffix == ".parquet":
        return read_event_parquet(engine, path)
    return read_tutorial_table(engine, path)
