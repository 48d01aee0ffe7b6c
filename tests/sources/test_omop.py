from datetime import date, datetime
from pathlib import Path

import pytest

from ehr_bert.codes import CodeSystem
from ehr_bert.engines import DuckDBEngine
from ehr_bert.sources.omop import OMOP, OmopCodes
from ehr_bert.sources.records import StoreRecords, WithoutVisit
from ehr_bert.sources.tables import opened_tables
from tests.sources.stores import patients_by_id, rows_of, write_tables
from tests.user_errors import raises_user_error

TABLES = {
    "PERSON": """
        PERSON_ID,gender_concept_id,year_of_birth,month_of_birth,day_of_birth,gender_source_value
        1,8507,1950,,,
        2,8532,1960,2,29,
        3,0,1970,11,3,other
    """,
    "VISIT_OCCURRENCE": """
        visit_occurrence_id,person_id,visit_start_date,visit_end_date
        11,1,2020-01-01,2020-01-03
        21,2,2020-05-01,2020-05-01
    """,
    "CONDITION_OCCURRENCE": """
        condition_occurrence_id,person_id,condition_concept_id,condition_start_date,condition_type_concept_id,visit_occurrence_id,visit_detail_id,condition_source_value,condition_source_concept_id,condition_status_concept_id
        101,1,201826,2020-01-01,32821,11.0,,  25000  ,44833365,0
        102,1,201826,2020-01-01,32821,11,,E11.9,45533022,32902
        103,1,0,2020-01-02,32817,11,,V70.7,0,
        104,1,4000,2020-01-02,38000200,11,,rhythm,2000000001,
        105,2,4000,2020-05-01,38000230,,5,44054006,0,
        106,2,320128,2020-05-02,32821,,,I10,0,
    """,
    "concept": """
        concept_id,vocabulary_id,concept_code
        0,None,No matching concept
        44833365,ICD9CM,250.00
        45533022,ICD10CM,E11.9
        201826,SNOMED,44054006
        2000000001,local,SR
        4000,Cancer Modifier,x1
    """,
    "visit_detail": "visit_detail_id,visit_occurrence_id\n5,21",
    "death": "person_id,death_date\n1,2021-01-01",
    "observation_period": """
        person_id,observation_period_start_date,observation_period_end_date
        1,2019-01-01,2020-01-01
        1,2018-01-01,2018-06-01
    """,
}


def read(engine: DuckDBEngine, folder: Path, **options: object) -> StoreRecords:
    with opened_tables(engine, str(folder), folder) as tables:
        return OMOP.records(tables, **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tables(tmp_path / "omop", TABLES)


def test_the_system_of_a_source_code_is_that_of_its_concept_or_its_shape(
    engine: DuckDBEngine, folder: Path
) -> None:
    assert rows_of(engine, read(engine, folder), "code", "priority", "reason") == [
        ("ICD9_250.00", None, None),
        ("ICD10_E11.9", 1, None),
        ("ICD9_V70.7", None, None),
        (None, 2, "unknown vocabulary: local"),
        ("SNOMED_44054006", 1, None),
        ("ICD10_I10", None, "no visit: visit_occurrence.visit_occurrence_id"),
    ]


def test_source_vocabulary_is_the_system_of_codes_without_a_concept(
    engine: DuckDBEngine, folder: Path
) -> None:
    records = read(engine, folder, source_vocabulary=CodeSystem.ICD10CM)
    assert rows_of(engine, records, "code", "reason")[:5] == [
        ("ICD9_250.00", None),
        ("ICD10_E11.9", None),
        ("ICD10_V70.7", None),
        (None, "unknown vocabulary: local"),
        (None, "not a code of ICD10CM"),
    ]


def test_standard_concepts_are_snomed_codes_or_concept_ids(engine: DuckDBEngine, folder: Path) -> None:
    records = read(engine, folder, codes=OmopCodes.STANDARD)
    assert rows_of(engine, records, "code", "reason", without_visit=WithoutVisit.KEEP) == [
        ("SNOMED_44054006", None),
        ("SNOMED_44054006", None),
        ("OMOP_0", "no standard concept"),
        ("OMOP_4000", None),
        ("OMOP_4000", None),
        ("OMOP_320128", None),
    ]


def test_only_conditions_of_the_given_types_are_extracted(engine: DuckDBEngine, folder: Path) -> None:
    reasons = rows_of(engine, read(engine, folder, condition_types=("32821",)), "reason")
    excluded = "condition type excluded"
    assert reasons[:5] == [None, None, excluded, excluded, excluded]


def test_a_condition_of_a_visit_detail_belongs_to_its_visit(engine: DuckDBEngine, folder: Path) -> None:
    rows = rows_of(engine, read(engine, folder), "patient_id", "admit_date", "discharge_date")
    assert rows[4] == ("2", "2020-05-01", "2020-05-01")


def test_patients_have_birth_sex_death_and_observation(engine: DuckDBEngine, folder: Path) -> None:
    patients = patients_by_id(engine, read(engine, folder))
    assert patients["1"] == {
        "birth_date": date(1950, 1, 1),
        "sex": "M",
        "death_date": date(2021, 1, 1),
        "observation_start": date(2018, 1, 1),
        "observation_end": date(2020, 1, 1),
        "observation_end_reason": "observation_period",
        "conflicts": 0,
    }
    assert patients["2"]["observation_end_reason"] is None
    assert [(patients[key]["birth_date"], patients[key]["sex"]) for key in "23"] == [
        (date(1960, 2, 29), "F"),
        (date(1970, 11, 3), "OTHER"),
    ]


def test_a_condition_has_its_own_day_and_time(engine: DuckDBEngine, tmp_path: Path) -> None:
    header, *rows = TABLES["CONDITION_OCCURRENCE"].strip().splitlines()
    times = [
        "2020-01-01 10:30:59.5",
        "2020-01-01 00:00:00",
        "2020-01-01 10:30",
        "",
        "2020-05-01T10:30:00Z",
        "",
    ]
    timed = [f"{row},{time}" for row, time in zip(rows, times, strict=True)]
    table = "\n".join([f"{header},condition_start_datetime", *timed])
    records = read(engine, write_tables(tmp_path / "omop", TABLES | {"CONDITION_OCCURRENCE": table}))
    assert rows_of(engine, records, "date", "time") == [
        (date(2020, 1, 1), datetime(2020, 1, 1, 10, 30, 59)),
        (date(2020, 1, 1), None),
        (date(2020, 1, 2), None),
        (date(2020, 1, 2), None),
        (date(2020, 5, 1), datetime(2020, 5, 1, 10, 30)),
        (date(2020, 5, 2), None),
    ]


def test_the_required_tables_are_enough(engine: DuckDBEngine, tmp_path: Path) -> None:
    required = ("PERSON", "VISIT_OCCURRENCE", "CONDITION_OCCURRENCE")
    records = read(engine, write_tables(tmp_path / "least", {name: TABLES[name] for name in required}))
    assert rows_of(engine, records, "code")[:3] == ["ICD9_250.00", "ICD10_E11.9", "ICD9_V70.7"]
    assert patients_by_id(engine, records)["1"]["death_date"] is None


def test_a_missing_table_or_column_is_named(engine: DuckDBEngine, tmp_path: Path) -> None:
    folder = write_tables(tmp_path / "omop", {**TABLES, "VISIT_OCCURRENCE": "visit_occurrence_id\n11"})
    with raises_user_error("missing-column", "visit_occurrence", "person_id, visit_start_date"):
        read(engine, folder)
    (folder / "PERSON.csv").unlink()
    write_tables(folder, {"VISIT_OCCURRENCE": TABLES["VISIT_OCCURRENCE"]})
    with raises_user_error("missing-table", "person", "concept, condition_occurrence"):
        read(engine, folder)
