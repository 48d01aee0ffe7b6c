"""The OMOP common data model 5.4, in Parquet. Large tables are folders of files."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ehr_bert.simulation.conditions import load_conditions
from ehr_bert.simulation.formats.coded import (
    VOCABULARIES,
    code_numbers,
    code_spellings,
    numbers,
    table_of,
    title_of_code,
)
from ehr_bert.simulation.formats.parts import ChunkFiles
from ehr_bert.simulation.formats.record_format import RecordFormat
from ehr_bert.simulation.records import SimulatedRecords

FIRST_CONCEPT = 2_000_000_001
"""Concept id of the first code. OMOP reserves ids above two billion for local concepts."""

_EHR = 32817
"""Concept: the row comes from an electronic health record."""

_FEMALE, _MALE = 8532, 8507
_INPATIENT, _OUTPATIENT = 9201, 9202

_ROWS_PER_CHUNK = 1 << 32
"""Ids of conditions of a chunk start at a multiple of this number."""

_INTEGER, _DAY, _TIME, _TEXT = pa.int64(), pa.date32(), pa.timestamp("us"), pa.string()

_PERSON = pa.schema(
    {
        "person_id": _INTEGER,
        "gender_concept_id": _INTEGER,
        "year_of_birth": _INTEGER,
        "month_of_birth": _INTEGER,
        "day_of_birth": _INTEGER,
        "birth_datetime": _TIME,
        "race_concept_id": _INTEGER,
        "ethnicity_concept_id": _INTEGER,
        "location_id": _INTEGER,
        "provider_id": _INTEGER,
        "care_site_id": _INTEGER,
        "person_source_value": _TEXT,
        "gender_source_value": _TEXT,
        "gender_source_concept_id": _INTEGER,
        "race_source_value": _TEXT,
        "race_source_concept_id": _INTEGER,
        "ethnicity_source_value": _TEXT,
        "ethnicity_source_concept_id": _INTEGER,
    }
)

_OBSERVATION_PERIOD = pa.schema(
    {
        "observation_period_id": _INTEGER,
        "person_id": _INTEGER,
        "observation_period_start_date": _DAY,
        "observation_period_end_date": _DAY,
        "period_type_concept_id": _INTEGER,
    }
)

_DEATH = pa.schema(
    {
        "person_id": _INTEGER,
        "death_date": _DAY,
        "death_datetime": _TIME,
        "death_type_concept_id": _INTEGER,
        "cause_concept_id": _INTEGER,
        "cause_source_value": _TEXT,
        "cause_source_concept_id": _INTEGER,
    }
)

_VISIT = pa.schema(
    {
        "visit_occurrence_id": _INTEGER,
        "person_id": _INTEGER,
        "visit_concept_id": _INTEGER,
        "visit_start_date": _DAY,
        "visit_start_datetime": _TIME,
        "visit_end_date": _DAY,
        "visit_end_datetime": _TIME,
        "visit_type_concept_id": _INTEGER,
        "provider_id": _INTEGER,
        "care_site_id": _INTEGER,
        "visit_source_value": _TEXT,
        "visit_source_concept_id": _INTEGER,
        "admitted_from_concept_id": _INTEGER,
        "admitted_from_source_value": _TEXT,
        "discharged_to_concept_id": _INTEGER,
        "discharged_to_source_value": _TEXT,
        "preceding_visit_occurrence_id": _INTEGER,
    }
)

_CONDITION = pa.schema(
    {
        "condition_occurrence_id": _INTEGER,
        "person_id": _INTEGER,
        "condition_concept_id": _INTEGER,
        "condition_start_date": _DAY,
        "condition_start_datetime": _TIME,
        "condition_end_date": _DAY,
        "condition_end_datetime": _TIME,
        "condition_type_concept_id": _INTEGER,
        "condition_status_concept_id": _INTEGER,
        "stop_reason": _TEXT,
        "provider_id": _INTEGER,
        "visit_occurrence_id": _INTEGER,
        "visit_detail_id": _INTEGER,
        "condition_source_value": _TEXT,
        "condition_source_concept_id": _INTEGER,
        "condition_status_source_value": _TEXT,
    }
)

_CONCEPT = pa.schema(
    {
        "concept_id": _INTEGER,
        "concept_name": _TEXT,
        "domain_id": _TEXT,
        "vocabulary_id": _TEXT,
        "concept_class_id": _TEXT,
        "standard_concept": _TEXT,
        "concept_code": _TEXT,
        "valid_start_date": _DAY,
        "valid_end_date": _DAY,
        "invalid_reason": _TEXT,
    }
)

_CDM_SOURCE = pa.schema(
    {
        "cdm_source_name": _TEXT,
        "cdm_source_abbreviation": _TEXT,
        "cdm_holder": _TEXT,
        "source_description": _TEXT,
        "source_documentation_reference": _TEXT,
        "cdm_etl_reference": _TEXT,
        "source_release_date": _DAY,
        "cdm_release_date": _DAY,
        "cdm_version": _TEXT,
        "cdm_version_concept_id": _INTEGER,
        "vocabulary_version": _TEXT,
    }
)


def _write(records: SimulatedRecords, files: ChunkFiles) -> None:
    patients = records.patients
    person, count = numbers(patients["patient_id"]), patients.num_rows
    files.write_table(
        "person",
        table_of(
            _PERSON,
            count,
            {
                "person_id": person,
                "gender_concept_id": pc.if_else(pc.equal(patients["sex"], "F"), _FEMALE, _MALE),
                "year_of_birth": pc.year(patients["birth_date"]),
                "race_concept_id": 0,
                "ethnicity_concept_id": 0,
                "person_source_value": patients["patient_id"],
                "gender_source_value": patients["sex"],
                "gender_source_concept_id": 0,
            },
        ),
    )
    files.write_table(
        "observation_period",
        table_of(
            _OBSERVATION_PERIOD,
            count,
            {
                "observation_period_id": person,
                "person_id": person,
                "observation_period_start_date": patients["observation_start"],
                "observation_period_end_date": patients["observation_end"],
                "period_type_concept_id": _EHR,
            },
        ),
    )
    dead = patients.filter(pc.is_valid(patients["death_date"]))
    files.write_table(
        "death",
        table_of(
            _DEATH,
            dead.num_rows,
            {
                "person_id": numbers(dead["patient_id"]),
                "death_date": dead["death_date"],
                "death_type_concept_id": _EHR,
            },
        ),
    )
    files.write_table("visit_occurrence", _visits(records.visits))
    files.write_table("condition_occurrence", _conditions(records.events, files.number))


def _visits(visits: pa.Table) -> pa.Table:
    return table_of(
        _VISIT,
        visits.num_rows,
        {
            "visit_occurrence_id": visits["visit_id"],
            "person_id": numbers(visits["patient_id"]),
            "visit_concept_id": pc.if_else(visits["inpatient"], _INPATIENT, _OUTPATIENT),
            "visit_start_date": visits["admitted"],
            "visit_start_datetime": visits["admitted"],
            "visit_end_date": visits["discharged"],
            "visit_end_datetime": visits["discharged"],
            "visit_type_concept_id": _EHR,
        },
    )


def _conditions(events: pa.Table, chunk: int) -> pa.Table:
    code = code_numbers(events["code"])
    return table_of(
        _CONDITION,
        len(code),
        {
            "condition_occurrence_id": chunk * _ROWS_PER_CHUNK + np.arange(len(code)),
            "person_id": numbers(events["patient_id"]),
            "condition_concept_id": 0,
            "condition_start_date": events["date"],
            "condition_start_datetime": events["time"],
            "condition_type_concept_id": _EHR,
            "visit_occurrence_id": events["visit_id"],
            "condition_source_value": code_spellings({"ICD9": "", "ICD10": ""}).take(pa.array(code)),
            "condition_source_concept_id": FIRST_CONCEPT + code,
        },
    )


def _finish(folder: Path, codes: Sequence[str]) -> None:
    """Write `concept` and `cdm_source`."""
    number = {code: place for place, code in enumerate(load_conditions().codes)}
    parts = [code.partition("_") for code in codes]
    concepts = table_of(
        _CONCEPT,
        len(codes),
        {
            "concept_id": [FIRST_CONCEPT + number[code] for code in codes],
            "concept_name": [title_of_code(code) for code in codes],
            "domain_id": "Condition",
            "vocabulary_id": [VOCABULARIES[system] for system, _, _ in parts],
            "concept_class_id": "Diagnosis code",
            "concept_code": [code for _, _, code in parts],
            "valid_start_date": [date(1970, 1, 1)] * len(codes),
            "valid_end_date": [date(2099, 12, 31)] * len(codes),
        },
    )
    pq.write_table(concepts, folder / "concept.parquet")
    source = {
        "cdm_source_name": "Synthetic patients of EHR-BERT",
        "cdm_source_abbreviation": "EHR-BERT",
        "cdm_holder": "EHR-BERT",
        "source_description": "Simulated records; no row describes a real person.",
        "cdm_version": "5.4",
        "vocabulary_version": "none",
    }
    pq.write_table(table_of(_CDM_SOURCE, 1, source), folder / "cdm_source.parquet")


OMOP_FORMAT = RecordFormat(title="OMOP 5.4", write=_write, finish=_finish)
