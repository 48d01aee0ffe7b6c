"""Checks of the rows of a diagnosis table, with the reason why a row is rejected."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import ibis
import ibis.expr.types as ir

from ehr_bert.schemas import DIAGNOSES, SpecialToken
from ehr_bert.vocabulary import TUTORIAL_PAD

ORDERING = {"present_on_admission": 2**15 - 2, "third_party": 2**15 - 2, "priority": 2**31 - 2}
"""Columns that order the codes of a visit, by precedence, with the largest absolute value of each."""

_RESERVED = (*(token.value for token in SpecialToken), TUTORIAL_PAD)


class RejectionReason(StrEnum):
    """Reason to reject a row. If several reasons apply, the first one that is checked is reported."""

    BLANK = "blank line"
    FIELDS = "not seven fields"
    NO_PATIENT = "no patient id"
    NO_CODE = "no code"
    ADMIT_DATE = "admission is not a date"
    DISCHARGE_DATE = "discharge is not a date"
    NEGATIVE_STAY = "discharge before admission"
    CONTROL_CHARACTER = "control character in patient id or code"
    RESERVED_CODE = "code is a special token"
    CONDITION_TYPE = "condition type excluded"
    NO_CONCEPT = "no standard concept"
    UNKNOWN_VOCABULARY = "unknown vocabulary"
    NOT_OF_SYSTEM = "not a code of"
    UNKNOWN_PATIENT = "patient not found"
    NO_VISIT = "no visit"
    UNKNOWN_VISIT = "visit not found"
    AMBIGUOUS_VISIT = "conflicting rows of one visit"
    OTHER_PATIENT = "visit of another patient"


@dataclass(frozen=True)
class CheckedEvents:
    """A checked diagnosis table.

    Attributes:
        path: The file or folder of the table.
        rows: The columns of `DIAGNOSES`; `reason`, null for a usable row; and `unreadable`, the number of
            ordering values of the row that are not integers within their limits and are treated as missing.
        rejected: `REJECTED`, in the order of the source. Computing it reads the source again.
        patients: `PATIENTS`, if the source contains them.
        splits: `SPLITS`, if the source contains them.
    """

    path: Path
    rows: ir.Table
    rejected: ir.Table
    patients: ir.Table | None = None
    splits: ir.Table | None = None


def check_rows(fields: ir.Table, rejection: ir.StringValue) -> ir.Table:
    """Convert the fields of a diagnosis table to their types, and mark the rows that cannot be used.

    Args:
        fields: The columns of `DIAGNOSES` as stripped strings, null if empty. Other columns are kept.
        rejection: Reason to reject a row whatever its fields, or null.

    Returns:
        `fields` with the columns of `CheckedEvents.rows`.
    """
    typed = fields.mutate(
        admit_date=day(fields.admit_date),
        discharge_date=day(fields.discharge_date),
        **{name: _integer(fields[name], limit) for name, limit in ORDERING.items()},
        **{_text_name(name): fields[name] for name in ORDERING},
        rejection=rejection,
    )
    reason = ibis.cases(
        (typed.rejection.notnull(), typed.rejection),
        (typed.patient_id.isnull(), RejectionReason.NO_PATIENT.value),
        (typed.code.isnull(), RejectionReason.NO_CODE.value),
        (typed.admit_date.isnull(), RejectionReason.ADMIT_DATE.value),
        (typed.discharge_date.isnull(), RejectionReason.DISCHARGE_DATE.value),
        (typed.discharge_date < typed.admit_date, RejectionReason.NEGATIVE_STAY.value),
        (
            _has_control_character(typed.patient_id) | _has_control_character(typed.code),
            RejectionReason.CONTROL_CHARACTER.value,
        ),
        (typed.code.isin(_RESERVED), RejectionReason.RESERVED_CODE.value),
        else_=ibis.null("string"),
    )
    unreadable = [
        (typed[_text_name(name)].notnull() & typed[name].isnull()).cast("int8") for name in ORDERING
    ]
    others = [name for name in fields.columns if name not in DIAGNOSES.names]
    return typed.select(
        *DIAGNOSES.names, *others, reason=reason, unreadable=sum(unreadable[1:], unreadable[0])
    )


def _text_name(column: str) -> str:
    return f"{column}_text"


def day(text: ir.StringValue) -> ir.DateValue:
    """Return the date of `YYYY-MM-DD`, optionally followed by a time. Anything else is null."""
    has_time = text.re_search(r"^.{10}[ T]\d\d:\d\d")
    from_timestamp = ibis.ifelse(has_time, _as_written(text.substr(0, 10), "date"), ibis.null("date"))
    date = ibis.coalesce(_as_written(text, "date"), from_timestamp)
    return ibis.ifelse(date.year() > 0, date, ibis.null("date"))


def _integer(text: ir.StringValue, limit: int) -> ir.IntegerValue:
    """Return an integer, also from `1.0`. Anything else, or a value beyond the limit, is null."""
    is_integer = text.re_search(r"^[+-]?[0-9]+(\.0*)?$")
    number = ibis.ifelse(is_integer, text.try_cast("float64"), ibis.null("float64"))
    bounded = ibis.ifelse(number.between(-limit, limit), number.cast("int32"), ibis.null("int32"))
    plain = _as_written(text, "int32")
    return ibis.ifelse(plain.between(-limit, limit), plain, bounded)


def _as_written(text: ir.StringValue, kind: str) -> ir.Value:
    """Return the value whose canonical text is `text`, else null. This is faster than a pattern."""
    value = text.try_cast(kind)
    return ibis.ifelse(value.cast("string") == text, value, ibis.null(kind))


def _has_control_character(text: ir.StringValue) -> ir.BooleanValue:
    return text.re_search(r"[\x00-\x1f\x7f]")
