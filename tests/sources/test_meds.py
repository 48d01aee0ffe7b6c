from datetime import date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ehr_bert.engines import DuckDBEngine
from ehr_bert.sources.meds import DIAGNOSIS_PATTERN, MEDS
from ehr_bert.sources.records import StoreRecords
from ehr_bert.sources.tables import opened_tables
from tests.sources.stores import patients_by_id, rows_of
from tests.user_errors import raises_user_error

EVENTS = [
    (1, None, "GENDER//F", None),
    (1, datetime(1950, 1, 1), "MEDS_BIRTH", None),
    (1, datetime(2020, 1, 1, 8), "HOSPITAL_ADMISSION//EW EMER.//ED", 11),
    (1, datetime(2020, 1, 2, 8), "LAB//50868//mEq/L", 11),
    (1, datetime(2020, 1, 4, 9), "DIAGNOSIS//ICD//9//25000", 11),
    (1, datetime(2020, 1, 4, 9), "DIAGNOSIS//ICD//10//E119", 11),
    (1, datetime(2020, 1, 4, 9), "HOSPITAL_DISCHARGE//HOME", 11),
    (1, datetime(2020, 2, 1, 9), "SNOMED/44054006", None),
    (1, datetime(2020, 3, 1, 9), "HOSPITAL_ADMISSION//URGENT", 12),
    (1, datetime(2020, 3, 1, 9, 0, 0, 500), "DIAGNOSIS//LOCAL//7", 12),
    (1, datetime(2020, 3, 2, 9), "HOSPITAL_DISCHARGE//DIED", 12),
    (1, datetime(2020, 3, 2, 9), "MEDS_DEATH", None),
    (2, datetime(2020, 5, 1, 9), "HOSPITAL_ADMISSION//URGENT", 13),
    (2, datetime(2020, 5, 1, 10), "ICD10CM/I10", 13),
]


def write_meds(folder: Path, has_visits: bool, splits: dict[int, str] | None = None) -> Path:
    """Write two shards in the published schema, and the splits if they are given."""
    for number, events in enumerate((EVENTS[:7], EVENTS[7:])):
        path = folder / "data" / "train" / f"{number}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        subjects, times, codes, visits = zip(*events, strict=True)
        columns = {
            "subject_id": pa.array(subjects, pa.int64()),
            "time": pa.array(times, pa.timestamp("us")),
            "code": pa.array(codes, pa.string()),
            "numeric_value": pa.nulls(len(events), pa.float32()),
        }
        if has_visits:
            columns["hadm_id"] = pa.array(visits, pa.int64())
        pq.write_table(pa.table(columns), path)
    (folder / "metadata").mkdir()
    pq.write_table(pa.table({"code": ["MEDS_BIRTH"]}), folder / "metadata" / "codes.parquet")
    if splits:
        table = pa.table({"subject_id": list(splits), "split": list(splits.values())})
        pq.write_table(table, folder / "metadata" / "subject_splits.parquet")
    return folder


def read(engine: DuckDBEngine, folder: Path, diagnoses: str = DIAGNOSIS_PATTERN) -> StoreRecords:
    with opened_tables(engine, str(folder), folder) as tables:
        return MEDS.records(tables, diagnoses=diagnoses)


@pytest.mark.parametrize(("has_visits", "place"), [(True, "data.hadm_id"), (False, "data.time")])
def test_a_diagnosis_gets_the_days_of_its_stay(
    engine: DuckDBEngine, tmp_path: Path, has_visits: bool, place: str
) -> None:
    records = read(engine, write_meds(tmp_path, has_visits))
    rows = rows_of(engine, records, "patient_id", "code", "admit_date", "discharge_date", "reason")
    first, second = ("2020-01-01", "2020-01-04"), ("2020-03-01", "2020-03-02")
    assert sorted(rows[:4], key=str) == [
        ("1", "ICD10_E11.9", *first, None),
        ("1", "ICD9_250.00", *first, None),
        ("1", "SNOMED_44054006", "None", "None", f"no visit: {place}"),
        ("1", None, *second, "unknown vocabulary: DIAGNOSIS//LOCAL"),
    ]
    assert rows_of(engine, records, "date", "time")[0] == (date(2020, 1, 4), datetime(2020, 1, 4, 9))


def test_a_visit_without_a_discharge_ends_with_its_last_event_or_is_no_visit(
    engine: DuckDBEngine, tmp_path: Path
) -> None:
    by_visit = read(engine, write_meds(tmp_path / "visits", has_visits=True))
    assert rows_of(engine, by_visit, "code", "discharge_date")[4] == ("ICD10_I10", "2020-05-01")
    by_time = read(engine, write_meds(tmp_path / "times", has_visits=False))
    assert rows_of(engine, by_time, "code", "reason")[4] == ("ICD10_I10", "no visit: data.time")


def test_patients_come_from_their_events(engine: DuckDBEngine, tmp_path: Path) -> None:
    patients = patients_by_id(engine, read(engine, write_meds(tmp_path, has_visits=True)))
    assert patients["1"] == {
        "birth_date": date(1950, 1, 1),
        "sex": "F",
        "death_date": date(2020, 3, 2),
        "observation_start": None,
        "observation_end": None,
        "observation_end_reason": None,
        "conflicts": 0,
    }
    assert patients["2"]["sex"] is None


def test_splits_are_renamed(engine: DuckDBEngine, tmp_path: Path) -> None:
    folder = write_meds(tmp_path, True, {1: "tuning", 2: "held_out"})
    splits = engine.collect(read(engine, folder).splits.order_by("patient_id")).to_pylist()
    assert splits == [{"patient_id": "1", "split": "valid"}, {"patient_id": "2", "split": "test"}]


def test_the_pattern_of_diagnoses_can_be_changed(engine: DuckDBEngine, tmp_path: Path) -> None:
    folder = write_meds(tmp_path, has_visits=True)
    assert rows_of(engine, read(engine, folder, "^SNOMED/"), "code") == ["SNOMED_44054006"]
    with raises_user_error("invalid-pattern", "("):
        read(engine, folder, "(")
