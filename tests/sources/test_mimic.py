from datetime import date
from pathlib import Path

import pytest

from ehr_bert.engines import DuckDBEngine
from ehr_bert.sources.mimic import MIMIC_III, MIMIC_IV
from ehr_bert.sources.records import StoreRecords
from ehr_bert.sources.store import Store
from ehr_bert.sources.tables import opened_tables
from tests.sources.stores import patients_by_id, rows_of, write_tables
from tests.user_errors import raises_user_error

ADMISSIONS = """
    subject_id,hadm_id,admittime,dischtime
    1,11,2180-05-06 22:23:00,2180-05-07 17:15:00
"""
MIMIC_IV_TABLES = {
    "diagnoses_icd": """
        subject_id,hadm_id,seq_num,icd_code,icd_version
        1,11,1,5723,9
        1,11,2,E8490,9
        1,11,3,E119,10
        1,12,1,E119,10
        1,11,4,00845  ,9
    """,
    "admissions": ADMISSIONS,
    "patients": """
        subject_id,gender,anchor_age,anchor_year,dod
        1,F,52,2180,2180-09-09
    """,
}
MIMIC_III_TABLES = {
    "DIAGNOSES_ICD": """
        "ROW_ID","SUBJECT_ID","HADM_ID","SEQ_NUM","ICD9_CODE"
        1,1,11,1,"40301"
        2,1,11,2,"V4586"
        3,1,11,,
    """,
    "ADMISSIONS": ADMISSIONS.upper(),
    "PATIENTS": """
        "ROW_ID","SUBJECT_ID","GENDER","DOB","DOD"
        1,1,"M",2128-03-05 00:00:00,
    """,
}


def read(engine: DuckDBEngine, folder: Path, store: Store) -> StoreRecords:
    with opened_tables(engine, str(folder), folder) as tables:
        return store.records(tables)


@pytest.mark.parametrize("place", ["", "hosp"])
def test_mimic_iv_has_codes_of_two_versions(engine: DuckDBEngine, tmp_path: Path, place: str) -> None:
    write_tables(tmp_path / place, MIMIC_IV_TABLES)
    records = read(engine, tmp_path, MIMIC_IV)
    assert rows_of(engine, records, "code", "priority", "admit_date", "reason") == [
        ("ICD9_572.3", 1, "2180-05-06", None),
        ("ICD9_E849.0", 2, "2180-05-06", None),
        ("ICD10_E11.9", 3, "2180-05-06", None),
        ("ICD9_008.45", 4, "2180-05-06", None),
        ("ICD10_E11.9", 1, "None", "visit not found: admissions.hadm_id"),
    ]
    patient = patients_by_id(engine, records)["1"]
    assert (patient["birth_date"], patient["sex"], patient["death_date"]) == (
        date(2128, 1, 1),
        "F",
        date(2180, 9, 9),
    )


def test_mimic_iii_has_icd_9_codes_and_the_day_of_birth(engine: DuckDBEngine, tmp_path: Path) -> None:
    records = read(engine, write_tables(tmp_path, MIMIC_III_TABLES), MIMIC_III)
    assert rows_of(engine, records, "code", "priority", "reason") == [
        (None, None, "no code: diagnoses_icd.icd9_code"),
        ("ICD9_403.01", 1, None),
        ("ICD9_V45.86", 2, None),
    ]
    assert patients_by_id(engine, records)["1"]["birth_date"] == date(2128, 3, 5)


def test_a_table_of_the_other_version_is_refused(engine: DuckDBEngine, tmp_path: Path) -> None:
    write_tables(tmp_path, MIMIC_IV_TABLES)
    with raises_user_error("missing-column", "diagnoses_icd", "icd9_code"):
        read(engine, tmp_path, MIMIC_III)
