from datetime import date
from pathlib import Path

import pytest

from ehr_bert.engines import DuckDBEngine
from ehr_bert.sources.synthea import SYNTHEA
from ehr_bert.sources.tables import opened_tables
from tests.sources.stores import patients_by_id, rows_of, write_tables

TABLES = {
    "encounters": """
        Id,START,STOP,PATIENT,ENCOUNTERCLASS
        e-1,2012-02-03T23:30:00Z,2012-02-04T00:15:00Z,p-1,ambulatory
        e-2,2012-03-03T23:30:00Z,,p-1,inpatient
    """,
    "patients": "Id,BIRTHDATE,DEATHDATE,GENDER\np-1,1980-05-05,,F",
}
CONDITIONS = {
    "without a system": """
        START,STOP,PATIENT,ENCOUNTER,CODE,DESCRIPTION
        2012-02-03,,p-1,e-1,44054006,"Diabetes, type 2"
        2012-03-03,,p-1,e-2,44054006,"Diabetes, type 2"
    """,
    "with a system": """
        START,STOP,PATIENT,ENCOUNTER,SYSTEM,CODE,DESCRIPTION
        2012-02-03,,p-1,e-1,http://snomed.info/sct,44054006,"Diabetes, type 2"
        2012-03-03,,p-1,e-2,http://snomed.info/sct,44054006,"Diabetes, type 2"
    """,
}


@pytest.mark.parametrize("form", CONDITIONS)
def test_conditions_get_the_days_of_their_encounters(engine: DuckDBEngine, tmp_path: Path, form: str) -> None:
    write_tables(tmp_path / "csv", {**TABLES, "conditions": CONDITIONS[form]})
    with opened_tables(engine, str(tmp_path), tmp_path) as tables:
        records = SYNTHEA.records(tables)
    assert rows_of(engine, records, "date", "time") == [(date(2012, 2, 3), None), (date(2012, 3, 3), None)]
    assert rows_of(engine, records, "code", "admit_date", "discharge_date", "reason") == [
        ("SNOMED_44054006", "2012-02-03", "2012-02-04", None),
        ("SNOMED_44054006", "2012-03-03", "None", "discharge is not a date: encounters.stop"),
    ]
    assert patients_by_id(engine, records)["p-1"]["birth_date"] == date(1980, 5, 5)
