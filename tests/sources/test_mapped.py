from datetime import date, datetime
from pathlib import Path

import pytest

from ehr_bert.codes import CodeSystem
from ehr_bert.engines import DuckDBEngine
from ehr_bert.sources.mapped import TABLE, Calendar, TableMapping
from ehr_bert.sources.records import StoreRecords, WithoutVisit
from ehr_bert.sources.tables import opened_tables
from tests.sources.stores import patients_by_id, rows_of
from tests.user_errors import raises_user_error

DATED = """
[columns]
patient_id = "MRN"
admit_date = "in"
discharge_date = "out"
code = "dx"
"""
COUNTED = """
system = "ICD9CM"
[columns]
patient_id = "MRN"
visit_index = "visit"
los_days = "days"
code = "dx"
sex = "gender"
[calendar]
start_date = 2000-01-01
gap_days = 10
"""


def read(engine: DuckDBEngine, folder: Path, mapping: str, table: str) -> StoreRecords:
    (folder / "mapping.toml").write_text(mapping)
    (folder / "table.tsv").write_text(table.replace(",", "\t"))
    with opened_tables(engine, str(folder / "table.tsv"), folder) as tables:
        return TABLE.records(tables, columns=TableMapping.read(folder / "mapping.toml"))


def test_without_a_system_codes_are_used_as_recorded(engine: DuckDBEngine, tmp_path: Path) -> None:
    records = read(engine, tmp_path, DATED, "mrn,in,out,dx\n7,2020-01-01,2020-01-02,ICD9_x\n7,,,ICD9_x\n")
    assert rows_of(engine, records, "patient_id", "code", "discharge_date", "reason") == [
        ("7", "ICD9_x", "None", "admission is not a date: table.in"),
        ("7", "ICD9_x", "2020-01-02", None),
    ]


def test_a_diagnosis_can_have_its_own_day_and_time(engine: DuckDBEngine, tmp_path: Path) -> None:
    mapping = DATED + 'date = "on"\ntime = "at"\n'
    days = "2020-01-01,2020-01-09,A"
    at = "2020-01-03 10:30"
    table = f"MRN,in,out,dx,on,at\n1,{days},2020-01-02,\n2,{days},,{at}\n3,,,A,,{at}\n"
    records = read(engine, tmp_path, mapping, table)
    assert rows_of(engine, records, "date", "time", "reason") == [
        (date(2020, 1, 2), None, None),
        (date(2020, 1, 3), datetime(2020, 1, 3, 10, 30), None),
        (date(2020, 1, 3), datetime(2020, 1, 3, 10, 30), "no visit: table.in"),
    ]
    kept = rows_of(engine, records, "admit_date", "reason", without_visit=WithoutVisit.KEEP)
    assert kept[2] == ("2020-01-03", None)


def test_constructed_days_and_days_of_diagnoses_exclude_each_other(tmp_path: Path) -> None:
    (tmp_path / "mapping.toml").write_text(COUNTED.replace("[calendar]", 'date = "on"\n[calendar]'))
    with raises_user_error("invalid-setting", "date", "[calendar]"):
        TableMapping.read(tmp_path / "mapping.toml")


def test_a_column_can_name_the_system_in_other_words(engine: DuckDBEngine, tmp_path: Path) -> None:
    mapping = DATED + 'system = "sys"\npriority = "rank"\n[systems]\nold = "ICD9CM"\n'
    days = "2020-01-01,2020-01-02"
    table = f"MRN,in,out,dx,sys,rank\n1,{days},25000,old,2\n2,{days},e119,ICD-10-CM,1\n3,{days},e119,new,1\n"
    assert rows_of(engine, read(engine, tmp_path, mapping, table), "code", "priority", "reason") == [
        ("ICD9_250.00", 2, None),
        ("ICD10_E11.9", 1, None),
        (None, 1, "unknown vocabulary: new"),
    ]


def test_ordered_visits_get_days_from_a_calendar(engine: DuckDBEngine, tmp_path: Path) -> None:
    table = """MRN,visit,days,dx,gender
1,0,3,25000,Male
1,0,3,4019,Male
1,10,1,25000,Male
1,2,0,25000,Male
2,5.0,2,25000,Female
2,6,-1,25000,Female
2,7,,25000,Female
3,1,1,25000,Female
3,1,2,25000,Male
"""
    records = read(engine, tmp_path, COUNTED, table)
    rows = rows_of(engine, records, "patient_id", "admit_date", "discharge_date", "reason")
    ambiguous = "conflicting rows of one visit: table.visit"
    assert [row for row in rows if row[0] == "1"] == [
        ("1", "2000-01-01", "2000-01-04", None),
        ("1", "2000-01-01", "2000-01-04", None),
        ("1", "2000-01-24", "2000-01-25", None),
        ("1", "2000-01-14", "2000-01-14", None),
    ]
    assert rows[4] == ("2", "2000-01-01", "2000-01-03", None)
    assert [row[3] for row in rows[5:]] == [
        "discharge before admission: table.days",
        "discharge is not a date: table.days",
        ambiguous,
        ambiguous,
    ]
    assert [patient["sex"] for _, patient in sorted(patients_by_id(engine, records).items())] == [
        "M",
        "F",
        None,
    ]


def test_a_mapping_is_read(tmp_path: Path) -> None:
    (tmp_path / "mapping.toml").write_text(COUNTED)
    assert TableMapping.read(tmp_path / "mapping.toml") == TableMapping(
        columns={
            "patient_id": "mrn",
            "visit_index": "visit",
            "los_days": "days",
            "code": "dx",
            "sex": "gender",
        },
        system=CodeSystem.ICD9CM,
        calendar=Calendar(date(2000, 1, 1), 10),
    )


@pytest.mark.parametrize(
    ("mapping", "key", "mentioned"),
    [
        (
            DATED.replace("patient_id", "pateint_id"),
            "unknown-setting",
            "Did you mean patient_id?",
        ),
        ("sistem = 'ICD9CM'\n" + DATED, "unknown-setting", "Did you mean system?"),
        (DATED + "zzz = 'a'", "unknown-setting", "patient_id, code"),
        (DATED.replace('admit_date = "in"', ""), "missing-setting", "admit_date"),
        (DATED.replace('"in"', "3"), "invalid-setting", "[columns]"),
        ("system = 'ICD8'\n" + DATED, "unknown-code-system", "ICD8"),
        (COUNTED.replace("start_date = 2000-01-01", ""), "missing-setting", "start_date"),
        ("table = 3\n" + DATED, "invalid-setting", "table"),
        (DATED.replace('"dx"', "dx"), "invalid-toml", ""),
    ],
)
def test_an_error_in_a_mapping_is_explained(tmp_path: Path, mapping: str, key: str, mentioned: str) -> None:
    (tmp_path / "mapping.toml").write_text(mapping)
    with raises_user_error(key, tmp_path / "mapping.toml", mentioned):
        TableMapping.read(tmp_path / "mapping.toml")


def test_a_missing_column_is_named(engine: DuckDBEngine, tmp_path: Path) -> None:
    with raises_user_error("missing-column", "out, dx", "mrn, in"):
        read(engine, tmp_path, DATED, "mrn,in\n")
