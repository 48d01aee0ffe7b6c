"""MIMIC-III and MIMIC-IV, as PhysioNet lays them out: hospital admissions and their billed ICD codes."""

from dataclasses import dataclass

import ibis
import ibis.expr.types as ir

from ehr_bert.codes.naming import system_named
from ehr_bert.sources.store import Names, Store, diagnosis_rows
from ehr_bert.sources.tables import Tables, whole


@dataclass(frozen=True)
class Mimic:
    """In what the versions differ.

    Attributes:
        code: The column of `diagnoses_icd` with the code.
        version: The one with the version of ICD; without it all are ICD-9.
        death: The column of `patients` with the day of death.
        birth: The one with the day of birth; without it the year comes from `anchor_year` and `anchor_age`.
    """

    code: str
    version: str | None
    death: str
    birth: str | None


MIMIC_III = Mimic(code="icd9_code", version=None, death="dod", birth="dob")
MIMIC_IV = Mimic(code="icd_code", version="icd_version", death="dod", birth=None)


def read_mimic(tables: Tables, mimic: Mimic) -> Store:
    """Reads `diagnoses_icd`, `admissions` and `patients`; `seq_num` is the priority.

    Raises:
        UserError: a table or a column lacks.
    """
    columns = ["subject_id", "hadm_id", "seq_num", mimic.code]
    raw = tables.read("diagnoses_icd", columns + ([mimic.version] if mimic.version else []))
    name = ibis.literal("ICD") + raw[mimic.version] + "CM" if mimic.version else ibis.literal("ICD9CM")
    admissions = tables.read("admissions", ["subject_id", "hadm_id", "admittime", "dischtime"])
    return Store(
        names=Names(
            code=f"diagnoses_icd.{mimic.code}",
            patient_id="patients.subject_id",
            visit_id="admissions.hadm_id",
            admit_date="admissions.admittime",
            discharge_date="admissions.dischtime",
        ),
        diagnoses=diagnosis_rows(
            raw,
            record=("seq_num", mimic.code),
            patient_id=whole(raw.subject_id),
            visit_id=whole(raw.hadm_id),
            code=raw[mimic.code],
            system=system_named(name),
            system_name=name,
            priority=raw.seq_num,
        ),
        visits=admissions.select(
            visit_id=whole(admissions.hadm_id),
            patient_id=whole(admissions.subject_id),
            admit_date=admissions.admittime,
            discharge_date=admissions.dischtime,
        ),
        patients=_patients(tables, mimic),
    )


def _patients(tables: Tables, mimic: Mimic) -> ir.Table:
    born = [mimic.birth] if mimic.birth else ["anchor_year", "anchor_age"]
    patients = tables.read("patients", ["subject_id", "gender", mimic.death, *born])
    if mimic.birth:
        birth = patients[mimic.birth]
    else:
        year = patients.anchor_year.try_cast("int32") - patients.anchor_age.try_cast("int32")
        birth = year.cast("string") + "-01-01"
    return patients.select(
        patient_id=whole(patients.subject_id),
        birth_date=birth,
        sex="gender",
        death_date=mimic.death,
        observation_start=ibis.null("string"),
        observation_end=ibis.null("string"),
    )
