"""Which rows of a diagnosis table can be used, and why the others can't."""

from dataclasses import dataclass
from enum import StrEnum

import ibis
import ibis.expr.types as ir

from ehr_bert.schemas import DIAGNOSES, SpecialToken
from ehr_bert.vocabulary import TUTORIAL_PAD

ORDERING = {"present_on_admission": 2**15 - 2, "third_party": 2**15 - 2, "priority": 2**31 - 2}
"""The columns that order codes inside a visit, the first foremost, and how far from 0 their values may be."""

_RESERVED = (*(token.value for token in SpecialToken), TUTORIAL_PAD)


class Reason(StrEnum):
    """Why a row is rejected; the first that holds is given."""

    BLANK = "blank line"
    FIELDS = "not seven fields"
    NO_PATIENT = "no patient id"
    NO_CODE = "no code"
    ADMIT_DATE = "admission is not a date"
    DISCHARGE_DATE = "discharge is not a date"
    NEGATIVE_STAY = "discharge before admission"
    CONTROL_CHARACTER = "control character in patient id or code"
    RESERVED_CODE = "code is a special token"


@dataclass(frozen=True)
class Diagnoses:
    """A diagnosis table, checked.

    Attributes:
        rows: The columns of `DIAGNOSES`; `reason`, null for a row that can be used; and `unreadable`,
            how many of the row's ordering values are no integers within their limits, and were taken as
            missing.
        rejected: `REJECTED`, in the order of the source: reads it again, so only to be computed at need.
    """

    rows: ir.Table
    rejected: ir.Table


def checked(fields: ir.Table, shape_fault: ir.StringValue) -> ir.Table:
    """Types the fields of a diagnosis table and finds the rows that can't be used.

    Args:
        fields: The columns of `DIAGNOSES` as strings, stripped, null if empty; further columns are kept.
        shape_fault: The `Reason` of a row that has no such fields, else null.

    Returns:
        `fields` with the columns of `Diagnoses.rows`.
    """
    typed = fields.mutate(
        admit_date=_date(fields.admit_date),
        discharge_date=_date(fields.discharge_date),
        **{name: _integer(fields[name], limit) for name, limit in ORDERING.items()},
        **{_text_name(name): fields[name] for name in ORDERING},
        shape_fault=shape_fault,
    )
    reason = ibis.cases(
        (typed.shape_fault.notnull(), typed.shape_fault),
        (typed.patient_id.isnull(), Reason.NO_PATIENT.value),
        (typed.code.isnull(), Reason.NO_CODE.value),
        (typed.admit_date.isnull(), Reason.ADMIT_DATE.value),
        (typed.discharge_date.isnull(), Reason.DISCHARGE_DATE.value),
        (typed.discharge_date < typed.admit_date, Reason.NEGATIVE_STAY.value),
        (_has_control(typed.patient_id) | _has_control(typed.code), Reason.CONTROL_CHARACTER.value),
        (typed.code.isin(_RESERVED), Reason.RESERVED_CODE.value),
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


def _date(text: ir.StringValue) -> ir.DateValue:
    """`YYYY-MM-DD`, after which a time may stand; anything else, and a day that never was, is null."""
    day = text.substr(0, 10)
    date = day.try_cast("date")
    ends_well = ibis.ifelse(text.length() > 10, text.re_search(r"^.{10}[ T]\d\d:\d\d"), True)
    return ibis.ifelse((date.cast("string") == day) & ends_well, date, ibis.null("date"))


def _integer(text: ir.StringValue, limit: int) -> ir.IntegerValue:
    """An integer, `1.0` among them; anything else, and one beyond the limit, is null."""
    number = text.try_cast("float64")
    is_integer = text.re_search(r"^[+-]?[0-9]+(\.0*)?$") & number.between(-limit, limit)
    return ibis.ifelse(is_integer, number.cast("int32"), ibis.null("int32"))


def _has_control(text: ir.StringValue) -> ir.BooleanValue:
    return text.re_search(r"[\x00-\x1f\x7f]")
