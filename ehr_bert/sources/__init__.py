"""Readers of stores and event tables. Every row is checked."""

from pathlib import Path
from zoneinfo import ZoneInfo

from ehr_bert.engines import Engine
from ehr_bert.errors import UserError
from ehr_bert.sources.checks import CheckedEvents
from ehr_bert.sources.extraction import is_extracted_folder, read_extracted_folder
from ehr_bert.sources.parquet import read_event_parquet
from ehr_bert.sources.tutorial import read_tutorial_table

__all__ = ["CheckedEvents", "read_event_parquet", "read_events", "read_tutorial_table"]


def read_events(engine: Engine, path: Path, zone: ZoneInfo | None = None) -> CheckedEvents:
    """Read an event table. A diagnosis table is one.

    A folder that `extract` wrote, another folder, or a path that ends in `.parquet` is read as Parquet. Any
    other file is read as the TSV of the Med-BERT tutorial.

    Args:
        engine: Engine that reads the table.
        path: The file or folder.
        zone: Time zone of the days and times of a Parquet table, as for `local_times`. Other tables have
            local days.

    Raises:
        UserError: The table does not exist (key `missing-file`), cannot be read (`unreadable-file`), or is
            not an event table (`missing-column`, `wrong-column-count`, `missing-header`), or `zone` is given
            for a table with local days (`setting-without-effect`).
    """
    if not path.exists():
        raise UserError("missing-file", f"{path} does not exist. Check the path of the table.")
    is_extracted = is_extracted_folder(path)
    if not is_extracted and (path.is_dir() or path.suffix == ".parquet"):
        return read_event_parquet(engine, path, zone)
    if zone is not None:
        raise UserError(
            "setting-without-effect",
            f"--time-zone has no effect on {path}, whose days are local. Use it with `ehr-bert extract`, or "
            "remove it.",
        )
    if is_extracted:
        return read_extracted_folder(engine, path)
    return read_tutorial_table(engine, path)
