"""MIMIC-III and MIMIC-IV as published by PhysioNet: hospital admissions and their billed ICD codes."""

from dataclasses import dataclass
from functools import partial

import ibis
import ibis.expr.types as ir

from ehr_bert.codes.naming import system_named
from ehr_bert.sources.records import ColumnNames, StoreRecords, diagnosis_rows
from ehr_bert.sources.store import Store
from ehr_bert.sources.tables import RawTables, without_decimals


@dataclass(frozen=True)
class MimicColumns:
    """Columns in which the versions of MIMIC differ.

    Attributes:
        code: Column of `diagnoses_icd` with the code.
        version: Column of `diagnoses_icd` with the version of ICD. Without it all codes are ICD-9-CM.
        death: Column of `patients` with the day of death.
        birth: Column of `patients` with the day of birth. Without it the year of birth is
            `anchor_year - anchor_age`.
    """

    code: str
    version: str | None
    death: str
    birth: str | None


MIMIC_III_COLUMNS = MimicColumns(code="icd9_code", version=None, death="dod", birth="dob")
MIMIC_IV_COLUMNS = MimicColumns(code="icd_code", version="icd_version", death="dod", birth=None)


def read_mimic(tables: RawTables, mimic: MimicColumns) -> StoreRecords:
    """Read `diagnoses_icd`, `admissions` and `patients`. `seq_num` is the priority.

    Raises:
        UserError: A table or column is missing (keys `missing-table`, `missing-column`).
    """
    columns = ["subject_id", "hadm_id", "seq_num", mimic.code]
    raw = tables.read("diagnoses_icd", columns + ([mimic.version] if mimic.version else []))
    name = ibis.literal("ICD") + raw[mimic.version] + "CM" if mimic.version else ibis.literal("ICD9CM")
    admissions = tables.read("admissions", ["subject_id", "hadm_id", "admittime", "dischtime"])
    return StoreRecords(
        names=ColumnNames(
            code=f"diagnoses_icd.{mimic.code}",
            patient_id="patients.subject_id",
            visit_id="admissions.hadm_id",
            admit_date="admissions.admittime",
            discharge_date="admissions.dischtime",
        ),
        diagnoses=diagnosis_rows(
            raw,
            record=("seq_num", mimic.code),
            patient_id=without_decimals(raw.subject_id),
            visit_id=without_decimals(raw.hadm_id),
            code=raw[mimic.code],
            system=system_named(name),
            system_name=name,
            priority=raw.seq_num,
        ),
        visits=admissions.select(
            visit_id=without_decimals(admissions.hadm_id),
            patient_id=without_decimals(admissions.subject_id),
            admit_date=admissions.admittime,
            discharge_date=admissions.dischtime,
        ),
        patients=_patients(tables, mimic),
    )


def _patients(tables: RawTables, mimic: MimicColumns) -> ir.Table:
    birth_columns = [mimic.birth] if mimic.birth else ["anchor_year", "anchor_age"]
    patients = tables.read("patients", ["subject_id", "gender", mimic.death, *birth_columns])
    if mimic.birth:
        birth = patients[mimic.birth]
    else:
        year = patients.anchor_year.try_cast("int32") - patients.anchor_age.try_cast("int32")
        birth = year.cast("string") + "-01-01"
    return patients.select(
        patient_id=without_decimals(patients.subject_id),
        birth_date=birth,
        sex="gender",
        death_date=mimic.death,
    )


_TABLES = ("diagnoses_icd", "admissions", "patients")

MIMIC_III = Store(
    name="mimic-iii",
    title="MIMIC-III",
    read=partial(read_mimic, mimic=MIMIC_III_COLUMNS),
    tables=_TABLES,
)
MIMIC_IV = Store(
    name="mimic-iv",
    title="MIMIC-IV",
    read=partial(read_mimic, mimic=MIMIC_IV_COLUMNS),
    tables=_TABLES,
)
