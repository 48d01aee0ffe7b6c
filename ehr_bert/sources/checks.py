"""Checks of the rows of an event table, with the reason why a row is rejected."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import ibis
import ibis.expr.types as ir

from ehr_bert.schemas import EVENTS, EventKind, SpecialToken
from ehr_bert.sources.times import as_written, day, is_midnight, moment
from ehr_bert.vocabulary import TUTORIAL_PAD

ORDERING = {"present_on_admission": 2**15 - 2, "third_party": 2**15 - 2, "priority": 2**31 - 2}
"""Columns that order the codes of a visit, by precedence, with the largest absolute value of each."""

UNREADABLE = (*ORDERING, "date", "time", "value")
"""Columns whose unreadable values are null and counted, in the order of the bits of `unreadable`."""

_DIAGNOSIS = EventKind.DIAGNOSIS.value
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
    UNKNOWN_KIND = "unknown kind of event"
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
    """A checked event table.

    Attributes:
        path: The file or folder of the table.
        rows: The columns of `EVENTS`; `reason`, null for a usable row; and `unreadable`, an integer with one
            bit for each column of `UNREADABLE`, set if the value of the row is unreadable and therefore null.
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
    """Convert the fields of an event table to their types, and mark the rows that cannot be used.

    A value that is unreadable is null. `date` is the day of `time` if it is missing. A time on another day
    than `date` counts as unreadable. A time of exactly midnight is null: only the day is known.

    Args:
        fields: The columns of `EVENTS` as stripped strings, null if empty. All but those of a visit, patient
            and code are optional. Other columns are kept.
        rejection: Reason to reject a row whatever its fields, or null.

    Returns:
        `fields` with the columns of `CheckedEvents.rows`.
    """
    typed, unreadable = _typed(fields)
    typed = typed.mutate(rejection=rejection)
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
        *(
            [(typed.kind.notin([kind.value for kind in EventKind]), RejectionReason.UNKNOWN_KIND.value)]
            if "kind" in fields.columns
            else []
        ),
        else_=ibis.null("string"),
    )
    bits = [
        ibis.ifelse(typed[_unreadable_name(name)], 1 << position, 0)
        for position, name in enumerate(UNREADABLE)
        if name in unreadable
    ]
    others = [name for name in fields.columns if name not in EVENTS.names]
    return typed.select(
        *EVENTS.names, *others, reason=reason, unreadable=sum(bits, ibis.literal(0)).cast("int16")
    )


def unreadable_values(rows_by_bits: Iterable[tuple[int, int]]) -> dict[str, int]:
    """Return the number of unreadable values by column, of the columns that have any.

    Args:
        rows_by_bits: Values of `unreadable` in `CheckedEvents.rows`, and the number of rows with each.

    Example:
        >>> unreadable_values([(0, 90), (1, 2), (9, 3)])
        {'present_on_admission': 5, 'date': 3}
    """
    rows = list(rows_by_bits)
    counts = {
        name: sum(count for bits, count in rows if bits >> position & 1)
        for position, name in enumerate(UNREADABLE)
    }
    return {name: count for name, count in counts.items() if count}


def unreadable_ordering_values(unreadable: Mapping[str, int]) -> int:
    """Return the number of unreadable values in the columns of `ORDERING`."""
    return sum(unreadable.get(name, 0) for name in ORDERING)


def _typed(fields: ir.Table) -> tuple[ir.Table, list[str]]:
    """Return the columns of `EVENTS`, and the columns that say in which rows a value is unreadable."""
    types = ibis.schema(EVENTS)
    present = {name: fields[name] for name in EVENTS.names if name in fields.columns}
    values = {name: present.get(name, ibis.null(types[name](nullable=True))) for name in EVENTS.names}
    values["admit_date"], values["discharge_date"] = day(fields.admit_date), day(fields.discharge_date)
    unreadable = {}
    for name, limit in ORDERING.items():
        if name in present:
            values[name] = _integer(present[name], limit)
            unreadable[name] = values[name].isnull()
    if "value" in present:
        values["value"] = _number(present["value"])
        unreadable["value"] = values["value"].isnull()
    if "date" in present:
        values["date"] = day(present["date"])
        unreadable["date"] = values["date"].isnull()
    if "time" in present:
        time = moment(present["time"])
        values["date"] = ibis.coalesce(values["date"], time.date())
        is_same_day = (time.date() == values["date"]).fill_null(False)
        unreadable["time"] = ~is_same_day
        values["time"] = ibis.ifelse(is_same_day & ~is_midnight(time), time, ibis.null("timestamp"))
    values["kind"] = present["kind"].fill_null(_DIAGNOSIS) if "kind" in present else ibis.literal(_DIAGNOSIS)
    flags = {
        _unreadable_name(name): present[name].notnull() & is_unreadable
        for name, is_unreadable in unreadable.items()
    }
    return fields.mutate(**values, **flags), list(unreadable)


def _unreadable_name(column: str) -> str:
    return f"{column}_is_unreadable"


def _integer(text: ir.StringValue, limit: int) -> ir.IntegerValue:
    """Return an integer, also from `1.0`. Anything else, or a value beyond the limit, is null."""
    is_integer = text.re_search(r"^[+-]?[0-9]+(\.0*)?$")
    number = ibis.ifelse(is_integer, text.try_cast("float64"), ibis.null("float64"))
    bounded = ibis.ifelse(number.between(-limit, limit), number.cast("int32"), ibis.null("int32"))
    plain = as_written(text, "int32")
    return ibis.ifelse(plain.between(-limit, limit), plain, bounded)


def _number(text: ir.StringValue) -> ir.FloatingValue:
    """Return a finite decimal number. Anything else is null."""
    is_number = text.re_search(r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$")
    number = ibis.ifelse(is_number, text.try_cast("float64"), ibis.null("float64"))
    return ibis.ifelse(number.abs() <= sys.float_info.max, number, ibis.null("float64"))


def _has_control_character(text: ir.StringValue) -> ir.BooleanValue:
    return text.re_search(r"[\x00-\x1f\x7f]")
