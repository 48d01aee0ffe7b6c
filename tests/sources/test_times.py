import tempfile
from datetime import date, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr_bert.engines import DuckDBEngine, Engine
from ehr_bert.sources.times import day, is_midnight, moment

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
