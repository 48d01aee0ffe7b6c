"""Synthea's CSV export: conditions and the encounters in which they were recorded."""

from ehr_bert.codes import CodeSystem
from ehr_bert.codes.naming import system_named
from ehr_bert.sources.records import ColumnNames, StoreRecords, diagnosis_rows
from ehr_bert.sources.store import Store
from ehr_bert.sources.tables import RawTables

_NAMES = ColumnNames(
    code="conditions.code",
    patient_id="patients.id",
    visit_id="encounters.id",
    admit_date="encounters.start",
    discharge_date="encounters.stop",
)


def read_synthea(tables: RawTables) -> StoreRecords:
    """Read `conditions`, `encounters` and `patients`. Without a column `system`, codes are SNOMED codes.

    Raises:
        UserError: A table or column is missing (keys `missing-table`, `missing-column`).
    """
    raw = tables.read("conditions", ["start", "patient", "encounter", "code"], optional=["system"])
    encounters = tables.read("encounters", ["id", "start", "stop", "patient"])
    patients = tables.read("patients", ["id", "birthdate", "deathdate", "gender"])
    name = raw.system.fill_null(CodeSystem.SNOMED.value)
    return StoreRecords(
        names=_NAMES,
        diagnoses=diagnosis_rows(
            raw,
            record=("start", "code"),
            patient_id=raw.patient,
            visit_id=raw.encounter,
            date=raw.start,
            time=raw.start,
            code=raw.code,
            system=system_named(name),
            system_name=name,
        ),
        visits=encounters.select(
            visit_id="id", patient_id="patient", admit_date="start", discharge_date="stop"
        ),
        patients=patients.select(
            patient_id="id",
            birth_date="birthdate",
            sex="gender",
            death_date="deathdate",
        ),
    )


SYNTHEA = Store(
    name="synthea",
    title="Synthea CSV export",
    read=read_synthea,
    tables=("conditions", "encounters", "patients"),
)
