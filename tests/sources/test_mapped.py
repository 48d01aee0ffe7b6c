from datetime import date
from pathlib import Path

import pytest

from ehr_bert.codes import CodeSystem
from ehr_bert.engines import DuckDBEngine
from ehr_bert.errors import UserError
from ehr_bert.sources.mapped import Calendar, TableMapping, read_mapped
from ehr_bert.sources.store import Store
from ehr_bert.sources.tables import opened
from tests.sources.stores import patients_by_id, rows_of

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


def read(engine: DuckDBEngine, folder: Path, mapping: str, table: str) -> Store:
    (folder / "mapping.toml").write_text(mapping)
    (folder / "table.tsv").write_text(table.replace(",", "\t"))
    with opened(engine, str(folder / "table.tsv"), folder) as tables:
        return read_mapped(tables, TableMapping.read(folder / "mapping.toml"))


def test_without_a_system_codes_stand_as_they_are(engine: DuckDBEngine, tmp_path: Path) -> None:
    store = read(engine, tmp_path, DATED, "mrn,in,out,dx\n7,2020-01-01,2020-01-02,ICD9_x\n7,,,ICD9_x\n")
    assert rows_of(engine, store, "patient_id", "code", "discharge_date", "reason") == [
        ("7", "ICD9_x", "None", "admission is not a date: table.in"),
        ("7", "ICD9_x", "2020-01-02", None),
    ]


def test_a_column_names_the_system_in_words_of_its_own(engine: DuckDBEngine, tmp_path: Path) -> None:
    mapping = DATED + 'system = "sys"\npriority = "rank"\n[systems]\nold = "ICD9CM"\n'
    days = "2020-01-01,2020-01-02"
    table = f"MRN,in,out,dx,sys,rank\n1,{days},25000,old,2\n2,{days},e119,ICD-10-CM,1\n3,{days},e119,new,1\n"
    assert rows_of(engine, read(engine, tmp_path, mapping, table), "code", "priority", "reason") == [
        ("ICD9_250.00", 2, None),
        ("ICD10_E11.9", 1, None),
        (None, 1, "unknown vocabulary: new"),
    ]


def test_visits_in_order_take_days_from_a_calendar(engine: DuckDBEngine, tmp_path: Path) -> None:
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
    store = read(engine, tmp_path, COUNTED, table)
    found = rows_of(engine, store, "patient_id", "admit_date", "discharge_date", "reason")
    ambiguous = "visit stands there twice, differently: table.visit_index"
    assert [row for row in found if row[0] == "1"] == [
        ("1", "2000-01-01", "2000-01-04", None),
        ("1", "2000-01-01", "2000-01-04", None),
        ("1", "2000-01-24", "2000-01-25", None),
        ("1", "2000-01-14", "2000-01-14", None),
    ]
    assert found[4] == ("2", "2000-01-01", "2000-01-03", None)
    assert [row[3] for row in found[5:]] == [
        "discharge before admission: table.days",
        "discharge is not a date: table.days",
        ambiguous.replace("visit_index", "visit"),
        ambiguous.replace("visit_index", "visit"),
    ]
    assert [patient["sex"] for _, patient in sorted(patients_by_id(engine, store).items())] == [
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
    ("mapping", "message"),
    [
        (
            DATED.replace("patient_id", "pateint_id"),
            r"columns\.pateint_id is unknown: did you mean patient_id\?",
        ),
        ("sistem = 'ICD9CM'\n" + DATED, "sistem is unknown: did you mean system"),
        (DATED + "zzz = 'a'", "zzz is unknown: there are patient_id, code"),
        (DATED.replace('admit_date = "in"', ""), "lacks admit_date"),
        (DATED.replace('"in"', "3"), r"\[columns\] must be"),
        ("system = 'ICD8'\n" + DATED, "no system ICD8: there are ICD9CM"),
        (COUNTED.replace("start_date = 2000-01-01", ""), "lacks start_date"),
        (DATED.replace('"dx"', "dx"), "can't be read as TOML"),
    ],
)
def test_a_fault_in_a_mapping_is_named_with_its_mend(tmp_path: Path, mapping: str, message: str) -> None:
    (tmp_path / "mapping.toml").write_text(mapping)
    with pytest.raises(UserError, match=message):
        TableMapping.read(tmp_path / "mapping.toml")


def test_a_column_that_the_table_lacks_is_named(engine: DuckDBEngine, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="table table has no column out, dx, only mrn, in"):
        read(engine, tmp_path, DATED, "mrn,in\n")
