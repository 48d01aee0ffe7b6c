"""Diagnosis table of the Med-BERT tutorial: seven tab-separated columns with a header, plain or gzipped."""

import re
from datetime import date
from pathlib import Path

import ibis
import ibis.expr.types as ir

from ehr_bert.engines import LINE, LINE_NUMBER, Engine, header_line
from ehr_bert.errors import UserError
from ehr_bert.schemas import DIAGNOSES
from ehr_bert.sources.checks import CheckedEvents, RejectionReason, check_rows

COLUMNS = tuple(DIAGNOSES.names)
"""Columns of the table by position. Their names in the header are ignored."""

_SEPARATOR = r"\t| {2,}"
"""Separator of fields. The published example mixes tabs and runs of spaces."""


def read_tutorial_table(engine: Engine, path: Path) -> CheckedEvents:
    """Read the table of the tutorial.

    A line has seven fields, separated by tabs, or else by tabs and runs of spaces. Quotes are plain
    characters. Blanks around a field are removed.

    Raises:
        UserError: The file cannot be read (key `unreadable-file`), has no header (`missing-header`), or does
            not have seven columns (`wrong-column-count`).
    """
    _check_header(path)
    rejected = _split(engine.read_numbered_lines(path)).filter(lambda row: row.reason.notnull())
    return CheckedEvents(
        path=path,
        rows=_split(engine.read_lines(path)).drop(LINE),
        rejected=rejected.order_by(LINE_NUMBER).select(
            line=rejected[LINE_NUMBER].cast("int64"), reason="reason", row=rejected[LINE].fill_null("")
        ),
    )


def _split(lines: ir.Table) -> ir.Table:
    """Return the lines with their checked fields."""
    line = lines[LINE]
    tidy = ibis.ifelse(line.contains(" "), line.re_replace("^ +| +$", "").re_replace(" *\t *", "\t"), line)
    by_tabs = tidy.split("\t")
    by_blanks = tidy.re_replace(_SEPARATOR, "\t").split("\t")
    has_all_fields = by_tabs.length() == len(COLUMNS)
    split = lines.mutate(fields=ibis.ifelse(has_all_fields, by_tabs, by_blanks))
    fields = split.mutate(
        **{name: split.fields[position].nullif("") for position, name in enumerate(COLUMNS)},
        field_count=split.fields.length(),
    ).drop("fields")
    rejection = ibis.cases(
        (fields.field_count == len(COLUMNS), ibis.null("string")),
        (fields[LINE].fill_null("").re_search(r"\S"), RejectionReason.FIELDS.value),
        else_=RejectionReason.BLANK.value,
    )
    return check_rows(fields, rejection).drop("field_count")


def _check_header(path: Path) -> None:
    """Check that the first line is a header of seven columns."""
    header = header_line(path)
    columns = header.split("\t")
    if len(columns) != len(COLUMNS):
        columns = re.split(_SEPARATOR, header)
    if len(columns) != len(COLUMNS):
        raise UserError(
            "wrong-column-count",
            f"{path}, line 1: {len(columns)} columns instead of {len(COLUMNS)}. The table needs the columns "
            f"{', '.join(COLUMNS)}, under any names, separated by tabs.",
        )
    if _is_date(columns[1]) and _is_date(columns[2]):
        raise UserError(
            "missing-header", f"{path}, line 1: a diagnosis instead of a header. Add a header line."
        )


def _is_date(field: str) -> bool:
    try:
        date.fromisoformat(field.strip()[:10])
    except ValueError:
        return False
    return True
