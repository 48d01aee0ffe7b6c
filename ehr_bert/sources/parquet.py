"""Event table in Parquet: one file, or a folder of files."""

from pathlib import Path
from zoneinfo import ZoneInfo

import ibis
import ibis.expr.types as ir

from ehr_bert.engines import Engine
from ehr_bert.errors import UserError
from ehr_bert.schemas import DIAGNOSES, EVENTS
from ehr_bert.sources.checks import CheckedEvents, check_rows
from ehr_bert.sources.tables import as_text
from ehr_bert.sources.times import local_times

_REQUIRED = ("patient_id", "admit_date", "discharge_date", "code")


def read_event_parquet(engine: Engine, path: Path, zone: ZoneInfo | None = None) -> CheckedEvents:
    """Read the columns of `EVENTS` by name.

    Other types are converted; ids in a column of floats have no decimals. Only the columns of patient,
    visit and code are required. Without `kind` all rows are diagnoses.

    Args:
        engine: Engine that reads the table.
        path: The file or folder.
        zone: Time zone of the days and times, as for `local_times`.

    Raises:
        UserError: The file cannot be read (key `unreadable-file`), or a column is missing
            (`missing-column`) or contains lists (`wrong-column-type`).
    """
    stored = engine.read_parquet(path)
    missing = [name for name in _REQUIRED if name not in stored.columns]
    if missing:
        raise UserError(
            "missing-column",
            f"{path} has no column {', '.join(missing)}. An event table has {', '.join(_REQUIRED)}. "
            f"The columns of this one are {', '.join(stored.columns)}. Rename or add columns.",
        )
    types = stored.schema()
    nested = [name for name in EVENTS.names if name in types and types[name].is_nested()]
    if nested:
        raise UserError(
            "wrong-column-type",
            f"{path} has several values a row in the column {', '.join(nested)}. Write one row per event.",
        )
    stored = local_times(
        engine, stored.select([name for name in EVENTS.names if name in stored.columns]), zone
    )
    texts = stored.select(
        **{
            name: as_text(stored[name]) if name == "patient_id" else stored[name].cast("string")
            for name in stored.columns
        }
    )
    return CheckedEvents(
        path=path,
        rows=check_rows(_stripped(texts), ibis.null("string")),
        rejected=_rejected(texts),
    )


def _stripped(texts: ir.Table, **others: ir.Value) -> ir.Table:
    return texts.select(**{name: texts[name].strip().nullif("") for name in texts.columns}, **others)


def _rejected(texts: ir.Table) -> ir.Table:
    """Return the rejected rows. `line` is null, and `row` holds the columns, separated by tabs."""
    names = [name for name in EVENTS.names if name in texts.columns or name in DIAGNOSES.names]
    row = ibis.literal("\t").join(
        [texts[name].fill_null("") if name in texts.columns else ibis.literal("") for name in names]
    )
    rows = check_rows(_stripped(texts, row=row), ibis.null("string"))
    return (
        rows.filter(rows.reason.notnull())
        .select(line=ibis.null("int64"), reason="reason", row="row")
        .order_by("reason", "row")
    )
