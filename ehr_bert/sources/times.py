"""Days and times, from the texts of a store, and their conversion to the time zone of a hospital."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from difflib import get_close_matches
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from ehr_bert.engines import Engine
from ehr_bert.errors import UserError

_OFFSET = r"(Z|[+-]\d\d(:?\d\d)?)"
"""`Z`, or an offset from UTC such as `+02:00`, `+0200` or `+02`."""

_CLOCK = r"^.{10}[ T]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d*)?)?"
"""A day, and a time with or without seconds and their fraction."""

_FIRST_DAY, _END_DAY = date(1600, 1, 1), date(2400, 1, 1)
"""Days for which the offsets of a time zone are computed. Other times remain as they are."""

_MACHINE_ZONES = frozenset({"Factory", "localtime"})
"""Names in the database of time zones that mean no zone, or that of the machine."""


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


def time_zone(name: str | None) -> ZoneInfo | None:
    """Return the time zone of an IANA name, such as `Europe/Berlin`, or None without a name.

    Raises:
        UserError: There is no time zone of this name (key `unknown-time-zone`).
    """
    if name is None:
        return None
    names = available_timezones() - _MACHINE_ZONES
    if name not in names:
        similar = get_close_matches(name, names, n=1)
        hint = f"Did you mean {similar[0]}?" if similar else "Use an IANA name such as Europe/Berlin."
        raise UserError("unknown-time-zone", f"unknown time zone {name!r}. {hint}")
    return ZoneInfo(name)


def local_times(engine: Engine, table: ir.Table, zone: ZoneInfo | None) -> ir.Table:
    """Return a table whose times with a time zone are texts of the local time, `YYYY-MM-DD hh:mm:ss`.

    These times are columns of type timestamp with time zone and, if a zone is given, texts with `Z` or an
    offset from UTC. The result is the same on every engine, whatever the time zone of the machine.

    Args:
        engine: Engine of the table. It computes which columns contain texts with an offset.
        table: A table of a store.
        zone: Time zone of the local time. Without it, columns of type timestamp with time zone are converted
            to UTC, and texts are unchanged.
    """
    zoned = engine.zoned_columns(table)
    utc = {name: table[name].cast("timestamp") for name in zoned}
    if zone is None:
        return table.mutate(**{name: time.cast("string") for name, time in utc.items()}) if utc else table
    texts = _columns_with_offsets(engine, table)
    utc |= {name: _utc(table[name].strip()) for name in texts}
    if not utc:
        return table
    converted = table.mutate(**{f"{name}_utc": time for name, time in utc.items()})
    offsets = engine.load(_offsets(zone))
    for name in utc:
        converted = _add_local_time(converted, name, offsets.view())
    local = {}
    for name in utc:
        unconverted = converted[name] if name in texts else converted[f"{name}_utc"].cast("string")
        local[name] = converted[f"{name}_local"].cast("string").coalesce(unconverted)
    return converted.select(**{name: local.get(name, converted[name]) for name in table.columns})


def _add_local_time(table: ir.Table, name: str, offsets: ir.Table) -> ir.Table:
    """Add `<name>_local`, the local time of `<name>_utc`; null if it is null or outside of the offsets."""
    joined = table.left_join(offsets, table[f"{name}_utc"].date() == offsets.utc_day)
    utc = joined[f"{name}_utc"]
    is_later = (utc >= joined.changes_at).fill_null(False)
    seconds = ibis.ifelse(is_later, joined.later_offset, joined.offset_seconds)
    return joined.select(*table.columns, **{f"{name}_local": utc + seconds.as_interval("s")})


def _columns_with_offsets(engine: Engine, table: ir.Table) -> list[str]:
    """Return the text columns that contain a time with an offset from UTC."""
    names = [name for name, kind in table.schema().items() if kind.is_string()]
    if not names:
        return []
    contains_offset = engine.collect(
        table.aggregate(**{name: _has_offset(table[name].strip()).any() for name in names})
    ).to_pylist()[0]
    return [name for name in names if contains_offset[name]]


def _has_offset(text: ir.StringValue) -> ir.BooleanValue:
    return text.re_search(f"{_CLOCK} ?{_OFFSET}$")


def _utc(text: ir.StringValue) -> ir.TimestampValue:
    """Return the time in UTC of a text with an offset, to the microsecond. Anything else is null."""
    offset = text.re_extract(f"{_OFFSET}$", 1)
    hours = offset.substr(1, 2).try_cast("int32").fill_null(0)
    minutes = ibis.ifelse(offset.length() > 3, offset.right(2), "0").try_cast("int32").fill_null(0)
    east = ibis.ifelse(offset.startswith("-"), -1, 1) * (hours * 60 + minutes)
    seconds = text.re_extract(r"^.{16}(:\d\d(\.\d{1,6})?)", 1)
    clock = text.substr(0, 10) + " " + text.substr(11, 5) + seconds
    is_time = _has_offset(text) & day(text).notnull()
    written = ibis.ifelse(is_time, clock, ibis.null("string")).try_cast("timestamp")
    return written - east.as_interval("m")


@cache
def _offsets(zone: ZoneInfo) -> pa.Table:
    """Return the offset of a zone from UTC on every day.

    Returns:
        `utc_day`; `offset_seconds` at its start; and, if the offset changes on this day, `changes_at`, the
        time in UTC of the change, and `later_offset`. No zone changes its offset twice in a day.
    """

    def offset(time: datetime) -> int:
        return round(zone.utcoffset(time.astimezone(zone)).total_seconds())  # type: ignore[union-attr]

    start = datetime(_FIRST_DAY.year, 1, 1, tzinfo=UTC)
    days = [start + timedelta(days=number) for number in range((_END_DAY - _FIRST_DAY).days + 1)]
    offsets = [offset(time) for time in days]
    changes: list[datetime | None] = []
    for (day_start, day_end), (before, after) in zip(pairwise(days), pairwise(offsets), strict=True):
        changes.append(None if before == after else _first_second(day_start, day_end, after, offset))
    return pa.table(
        {
            "utc_day": pa.array([time.date() for time in days[:-1]], pa.date32()),
            "offset_seconds": pa.array(offsets[:-1], pa.int32()),
            "changes_at": pa.array(
                [time and time.replace(tzinfo=None) for time in changes], pa.timestamp("us")
            ),
            "later_offset": pa.array(offsets[1:], pa.int32()),
        }
    )


def _first_second(start: datetime, end: datetime, after: int, offset: Callable[[datetime], int]) -> datetime:
    """Return the first second after `start` and until `end` whose offset is `after`, without time zone."""
    low, high = 0, round((end - start).total_seconds())
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if offset(start + timedelta(seconds=middle)) == after else (middle, high)
    return (start + timedelta(seconds=high)).replace(tzinfo=None)
