"""Days and times, from the texts of a store."""

import ibis
import ibis.expr.types as ir

_OFFSET = r"(Z|[+-]\d\d(:?\d\d)?)"
"""`Z`, or an offset from UTC such as `+02:00`, `+0200` or `+02`."""

_CLOCK = r"^.{10}[ T]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d*)?)?"
"""A day, and a time with or without seconds and their fraction."""


def as_written(text: ir.StringValue, kind: str) -> ir.Value:
    """Return the value whose canonical text is `text`, else null. This is faster than a pattern."""
    value = text.try_cast(kind)
    return ibis.ifelse(value.cast("string") == text, value, ibis.null(kind))


def day(text: ir.StringValue) -> ir.DateValue:
    """Return the date of `YYYY-MM-DD`, optionally followed by a time. Anything else is null."""
    has_time = text.re_search(r"^.{10}[ T]\d\d:\d\d")
    from_timestamp = ibis.ifelse(has_time, as_written(text.substr(0, 10), "date"), ibis.null("date"))
    date = ibis.coalesce(as_written(text, "date"), from_timestamp)
    return ibis.ifelse(date.year() > 0, date, ibis.null("date"))


def moment(text: ir.StringValue) -> ir.TimestampValue:
    """Return the time of `YYYY-MM-DD hh:mm:ss` as written, to the second.

    A `T` may separate day and time. Seconds, their fraction and an offset from UTC are optional; the fraction
    and the offset are ignored. A day without a time begins at midnight. Anything else is null.
    """
    has_clock = text.re_search(f"{_CLOCK} ?{_OFFSET}?$")
    has_seconds = text.re_search(r"^.{16}:")
    minute = text.substr(0, 10) + " " + text.substr(11, 5)
    clock = minute + ibis.ifelse(has_seconds, text.substr(16, 3), ":00")
    written = ibis.cases(
        (day(text).isnull(), ibis.null("string")),
        (text.length() == 10, text + " 00:00:00"),
        (has_clock, clock),
        else_=ibis.null("string"),
    )
    return written.try_cast("timestamp")


def is_midnight(time: ir.TimestampValue) -> ir.BooleanValue:
    """Return whether a time is exactly midnight, which means that only the day is known."""
    return time == time.truncate("D")
