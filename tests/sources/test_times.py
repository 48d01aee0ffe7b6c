import os
import subprocess
import sys
import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ehr_bert.engines import DuckDBEngine, Engine
from ehr_bert.sources.times import day, is_midnight, local_times, moment, time_zone
from tests.user_errors import raises_user_error

SCRATCH = Path(tempfile.gettempdir())

TEXTS = {
    "2020-02-29 10:30:59": datetime(2020, 2, 29, 10, 30, 59),
    "2020-02-29T10:30:59.999999": datetime(2020, 2, 29, 10, 30, 59),
    "2020-02-29T10:30": datetime(2020, 2, 29, 10, 30),
    "2020-02-29 23:59:59Z": datetime(2020, 2, 29, 23, 59, 59),
    "2020-02-29 10:30:59.5 +02:00": datetime(2020, 2, 29, 10, 30, 59),
    "2020-02-29 10:30-0500": datetime(2020, 2, 29, 10, 30),
    "2020-02-29 10:30:00+02": datetime(2020, 2, 29, 10, 30),
    "2020-02-29": datetime(2020, 2, 29),
    "1899-12-31 00:00:00": datetime(1899, 12, 31),
    "2020-02-30 10:30:00": None,
    "2020-02-29 24:00:00": None,
    "2020-02-29 10:60:00": None,
    "2020-02-29 10:30:60": None,
    "2020-02-29 10": None,
    "2020-02-29 10:30 PM": None,
    "10:30:00": None,
    "2020-2-29 10:30:00": None,
    None: None,
}


def moments_of(engine: Engine, texts: list[str | None]) -> list[datetime | None]:
    table = engine.load(pa.table({"number": range(len(texts)), "text": pa.array(texts, pa.string())}))
    moments = table.select("number", moment=moment(table.text)).order_by("number")
    return engine.collect(moments)["moment"].to_pylist()


def test_a_time_is_read_to_the_second(engine: DuckDBEngine) -> None:
    assert dict(zip(TEXTS, moments_of(engine, list(TEXTS)), strict=True)) == TEXTS


@pytest.mark.spark
def test_spark_reads_the_same_times(spark: Engine) -> None:
    assert dict(zip(TEXTS, moments_of(spark, list(TEXTS)), strict=True)) == TEXTS


@given(st.lists(st.tuples(st.datetimes(datetime(1, 1, 1)), st.sampled_from(" T")), min_size=1))
@settings(max_examples=10)
def test_any_written_time_is_read_to_the_second(written: list[tuple[datetime, str]]) -> None:
    texts = [value.isoformat(separator) for value, separator in written]
    with DuckDBEngine(SCRATCH) as engine:
        assert moments_of(engine, texts) == [value.replace(microsecond=0) for value, _ in written]


def test_midnight_means_that_only_the_day_is_known(engine: DuckDBEngine) -> None:
    table = engine.load(pa.table({"text": ["2020-01-01", "2020-01-01T00:00:00.9Z", "2020-01-01 00:00:01"]}))
    assert engine.collect(table.select(midnight=is_midnight(moment(table.text))))["midnight"].to_pylist() == [
        True,
        True,
        False,
    ]


def test_a_day_may_have_a_time(engine: DuckDBEngine) -> None:
    texts = ["2020-02-29", "2020-02-29T10:30", "2020-02-29 x", "2020-02-30", "0000-01-01"]
    table = engine.load(pa.table({"text": texts}))
    assert engine.collect(table.select(day=day(table.text)))["day"].to_pylist() == [
        date(2020, 2, 29),
        date(2020, 2, 29),
        None,
        None,
        None,
    ]


ZONES = ["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Africa/Casablanca"]
INSTANTS = [
    datetime(2024, 3, 31, 0, 59, 59),  # the last second before a gap of an hour in Berlin
    datetime(2024, 3, 31, 1),
    datetime(2024, 10, 27, 0, 30),  # half past two in Berlin, twice
    datetime(2024, 10, 27, 1, 30),
    datetime(1600, 1, 1),
    datetime(1893, 3, 31, 23, 6, 32),
    datetime(1945, 5, 24, 0, 0),
    datetime(1969, 12, 31, 23, 59, 59, 999999),
    datetime(2038, 1, 19, 3, 14, 8),
    datetime(2087, 7, 1, 12),
    datetime(2399, 12, 31, 23, 59, 59),
]
OFFSETS = {"Z": 0, "+02:00": 120, "-0530": -330, "+05": 300, " -00:00": 0, "+23:59": 1439}


def as_local(instant: datetime, zone: ZoneInfo) -> datetime:
    return instant.replace(tzinfo=UTC).astimezone(zone).replace(tzinfo=None)


def written_at(instant: datetime, offset: str, separator: str = "T") -> str:
    """Return an instant of UTC as a clock with this offset shows it."""
    return (instant + timedelta(minutes=OFFSETS[offset])).isoformat(separator) + offset


def converted(engine: Engine, zone: str | None, path: Path) -> dict[str, list]:
    table = local_times(engine, engine.read_parquet(path), time_zone(zone))
    return engine.collect(table.order_by("number")).to_pydict()


def write_zoned(path: Path) -> dict[str, list]:
    """Write instants as a column with a time zone, as texts with offsets, and without a time zone."""
    instants = INSTANTS * len(OFFSETS)
    offsets = [offset for offset in OFFSETS for _ in INSTANTS]
    columns = {
        "number": list(range(len(instants))),
        "typed": pa.array(instants, pa.timestamp("us", "UTC")),
        "text": [written_at(*pair) for pair in zip(instants, offsets, strict=True)],
        "plain": [instant.isoformat(" ") for instant in instants],
        "local": pa.array(instants, pa.timestamp("us")),
    }
    pq.write_table(pa.table(columns), path)
    return {"instants": instants, "text": columns["text"], "plain": columns["plain"]}


def check_conversion(engine: Engine, path: Path, zones: list[str]) -> None:
    known = write_zoned(path)
    for zone in zones:
        expected = [as_local(instant, ZoneInfo(zone)) for instant in known["instants"]]
        columns = converted(engine, zone, path)
        for name in ("typed", "text"):
            assert [datetime.fromisoformat(text) for text in columns[name]] == expected
        assert columns["plain"] == known["plain"]
        assert columns["local"] == known["instants"]
    columns = converted(engine, None, path)
    assert [datetime.fromisoformat(text) for text in columns["typed"]] == known["instants"]
    assert columns["text"] == known["text"]


def test_zoned_times_are_converted_as_python_does(engine: DuckDBEngine, tmp_path: Path) -> None:
    check_conversion(engine, tmp_path / "zoned.parquet", ZONES)


@pytest.mark.spark
def test_spark_converts_the_same_times(spark: Engine, tmp_path: Path) -> None:
    check_conversion(spark, tmp_path / "zoned.parquet", ["Australia/Lord_Howe"])


@pytest.mark.parametrize(
    "text",
    ["2020-13-01T10:00Z", "2020-01-01T24:00Z", "2020-01-01", "10:30Z", "2020-01-01T10:00 UTC", "", None],
)
def test_other_texts_remain_as_they_are(engine: DuckDBEngine, tmp_path: Path, text: str | None) -> None:
    texts = pa.array([text, "2020-01-01T23:30Z"], pa.string())
    pq.write_table(pa.table({"number": [0, 1], "at": texts}), tmp_path / "t.parquet")
    columns = converted(engine, "Asia/Tokyo", tmp_path / "t.parquet")
    assert columns["at"] == [text, "2020-01-02 08:30:00"]


@given(
    st.lists(
        st.tuples(
            st.datetimes(datetime(1601, 1, 1), datetime(2399, 1, 1)),
            st.sampled_from(list(OFFSETS)),
            st.sampled_from(" T"),
        ),
        min_size=1,
    ),
    st.sampled_from(ZONES),
)
@settings(max_examples=10)
def test_any_text_with_an_offset_is_converted(written: list[tuple], zone: str) -> None:
    texts = [written_at(*case) for case in written]
    with DuckDBEngine(SCRATCH) as engine:
        table = engine.load(pa.table({"number": range(len(texts)), "at": texts}))
        local = engine.collect(local_times(engine, table, ZoneInfo(zone)).order_by("number"))
    assert [datetime.fromisoformat(text) for text in local["at"].to_pylist()] == [
        as_local(instant, ZoneInfo(zone)) for instant, _, _ in written
    ]


@pytest.mark.parametrize(
    ("name", "hint"), [("Europe/Berln", "Europe/Berlin"), ("CET+1h", ""), ("localtime", ""), ("", "")]
)
def test_an_unknown_time_zone_is_refused(name: str, hint: str) -> None:
    with raises_user_error("unknown-time-zone", repr(name), hint):
        time_zone(name)


def test_the_time_zone_of_the_machine_has_no_effect(tmp_path: Path) -> None:
    """DuckDB and Spark would otherwise show instants in the time zone of the machine."""
    write_zoned(tmp_path / "zoned.parquet")
    program = f"""
from pathlib import Path
from ehr_bert.engines import DuckDBEngine
from tests.sources.test_times import converted
with DuckDBEngine(Path({str(tmp_path)!r})) as engine:
    for zone in (None, "Europe/Berlin"):
        print(converted(engine, zone, Path({str(tmp_path / "zoned.parquet")!r})))
"""
    shown = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"TZ": zone, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for zone in ("Asia/Tokyo", "America/Los_Angeles")
    }
    assert len(shown) == 1
    assert "2024-03-31 03:00:00" in shown.pop()


@pytest.mark.spark
def test_the_session_of_spark_is_in_utc(spark: Engine, tmp_path: Path) -> None:
    from ehr_bert.engines.spark import SparkEngine

    with SparkEngine(tmp_path, "local[2]", {"spark.sql.session.timeZone": "Asia/Tokyo"}) as engine:
        assert engine._session.conf.get("spark.sql.session.timeZone") == "UTC"
