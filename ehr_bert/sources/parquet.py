"""Diagnosis table in Parquet: one file, or a folder of files."""

from pathlib import Path

import ibis
import ibis.expr.types as ir

from ehr_bert.engines import Engine
from ehr_bert.errors import UserError
from ehr_bert.schemas import DIAGNOSES
from ehr_bert.sources.checks import ORDERING, CheckedEvents, check_rows


def read_event_parquet(engine: Engine, path: Path) -> CheckedEvents:
    """Read the columns of `DIAGNOSES` by name.

    Other types are converted. The columns of `ORDERING` are optional.

    Raises:
        UserError: The file cannot be read (key `unreadable-file`), or a column is missing
            (`missing-column`).
    """
    stored = engine.read_parquet(path)
    missing = [name for name in DIAGNOSES.names if name not in stored.columns and name not in ORDERING]
    if missing:
        raise UserError(
            "missing-column",
            f"{path} has no column {', '.join(missing)}. A diagnosis table has {', '.join(DIAGNOSES.names)}.",
        )
    texts = stored.select(
        **{
            name: stored[name].cast("string") if name in stored.columns else ibis.null("string")
            for name in DIAGNOSES.names
        }
    )
    fields = texts.select(**{name: texts[name].strip().nullif("") for name in texts.columns})
    return CheckedEvents(
        path=path,
        rows=check_rows(fields, ibis.null("string")),
        rejected=_rejected(texts),
    )


def _rejected(texts: ir.Table) -> ir.Table:
    """Return the rejected rows. `line` is null, and `row` holds the columns, separated by tabs."""
    row = ibis.literal("\t").join([texts[name].fill_null("") for name in DIAGNOSES.names])
    fields = texts.select(**{name: texts[name].strip().nullif("") for name in texts.columns}, row=row)
    rows = check_rows(fields, ibis.null("string"))
    return (
        rows.filter(rows.reason.notnull())
        .select(line=ibis.null("int64"), reason="reason", row="row")
        .order_by("reason", "row")
    )
