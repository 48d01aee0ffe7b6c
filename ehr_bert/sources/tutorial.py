"""The Med-BERT tutorial's table: seven tab-separated columns with a header, plain or gzipped."""

import gzip
import re
import zlib
from datetime import date
from pathlib import Path

import ibis
import ibis.expr.types as ir

from ehr_bert.engines import LINE, LINE_NUMBER, Engine
from ehr_bert.errors import UserError
from ehr_bert.schemas import DIAGNOSES
from ehr_bert.sources.checks import Diagnoses, RejectionReason, checked

COLUMNS = tuple(DIAGNOSES.names)
"""The table's columns by position, whatever its header calls them."""

_SEPARATOR = r"\t| {2,}"
"""The published example mixes tabs and runs of spaces."""


def read_tutorial_table(engine: Engine, path: Path) -> Diagnoses:
    """Reads the tutorial's table: lines of seven fields, parted by tabs or else by tabs and runs of spaces.

    Quotes are plain characters. Blanks around a field are dropped.

    Raises:
        UserError: the file can't be read, is empty, has another number of columns, or has no header.
    """
    _check_header(path)
    rejected = _split(engine.read_numbered_lines(path)).filter(lambda row: row.reason.notnull())
    return Diagnoses(
        rows=_split(engine.read_lines(path)).drop(LINE),
        rejected=rejected.order_by(LINE_NUMBER).select(
            line=rejected[LINE_NUMBER].cast("int64"), reason="reason", row=rejected[LINE].fill_null("")
        ),
    )


def _split(lines: ir.Table) -> ir.Table:
    """The lines' fields, checked, beside the lines."""
    line = lines[LINE]
    tidy = ibis.ifelse(line.contains(" "), line.re_replace("^ +| +$", "").re_replace(" *\t *", "\t"), line)
    by_tabs = tidy.split("\t")
    by_blanks = tidy.re_replace(_SEPARATOR, "\t").split("\t")
    whole = by_tabs.length() == len(COLUMNS)
    split = lines.mutate(fields=ibis.ifelse(whole, by_tabs, by_blanks))
    fields = split.mutate(
        **{name: split.fields[position].nullif("") for position, name in enumerate(COLUMNS)},
        field_count=split.fields.length(),
    ).drop("fields")
    shape_fault = ibis.cases(
        (fields.field_count == len(COLUMNS), ibis.null("string")),
        (fields[LINE].fill_null("").re_search(r"\S"), RejectionReason.FIELDS.value),
        else_=RejectionReason.BLANK.value,
    )
    return checked(fields, shape_fault).drop("field_count")


def _check_header(path: Path) -> None:
    """Raises a `UserError` unless the first line is a header of seven columns."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            header = file.readline(1 << 20).decode("utf-8-sig").rstrip("\r\n")
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} can't be read: {error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}, line 1: not UTF-8: is this a tab-separated table?") from error
    columns = header.split("\t")
    if len(columns) != len(COLUMNS):
        columns = re.split(_SEPARATOR, header)
    if not header.strip():
        raise UserError(f"{path}, line 1: empty, where a header of {len(COLUMNS)} columns must be")
    if len(columns) != len(COLUMNS):
        raise UserError(
            f"{path}, line 1: {len(columns)} columns, where seven must be: {', '.join(COLUMNS)} "
            "(under any names, separated by tabs)"
        )
    if _is_date(columns[1]) and _is_date(columns[2]):
        raise UserError(f"{path}, line 1: a diagnosis, where a header must be: put one above it")


def _is_date(field: str) -> bool:
    try:
        date.fromisoformat(field.strip()[:10])
    except ValueError:
        return False
    return True
