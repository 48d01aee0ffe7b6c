"""FHIR R4 as NDJSON: one file of patients, encounters and conditions each."""

import json
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from ehr_bert.simulation.formats.coded import titles_of_codes
from ehr_bert.simulation.formats.parts import ChunkFiles
from ehr_bert.simulation.formats.record_format import RecordFormat
from ehr_bert.simulation.records import SimulatedRecords

_SYSTEMS = {"ICD9": "http://hl7.org/fhir/sid/icd-9-cm", "ICD10": "http://hl7.org/fhir/sid/icd-10-cm"}
_GENDERS = {"F": "female", "M": "male"}
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"

Resource = dict[str, Any]

_encode = json.JSONEncoder(separators=(",", ":")).encode


def _write(records: SimulatedRecords, files: ChunkFiles) -> None:
    """Write the records, patient by patient: FHIR is nested, and meant for few patients."""
    ranks: dict[int, list[Resource]] = defaultdict(list)
    conditions = []
    rows = records.events.to_pylist()
    titles = titles_of_codes([row["code"] for row in rows])
    for number, (row, title) in enumerate(zip(rows, titles, strict=True)):
        condition = _condition(f"{files.number}-{number}", row, title)
        conditions.append(condition)
        reference = {"reference": f"Condition/{condition['id']}"}
        ranks[row["visit_id"]].append({"condition": reference, "rank": row["priority"]})
    encounters = [_encounter(visit, ranks[visit["visit_id"]]) for visit in records.visits.to_pylist()]
    _append(files, "Patient", map(_patient, records.patients.to_pylist()))
    _append(files, "Encounter", encounters)
    _append(files, "Condition", conditions)


def _patient(row: Resource) -> Resource:
    died = row["death_date"]
    return {
        "resourceType": "Patient",
        "id": row["patient_id"],
        "gender": _GENDERS[row["sex"]],
        "birthDate": row["birth_date"].isoformat(),
        **({"deceasedDateTime": died.isoformat()} if died else {}),
    }


def _encounter(row: Resource, diagnoses: list[Resource]) -> Resource:
    return {
        "resourceType": "Encounter",
        "id": str(row["visit_id"]),
        "status": "finished",
        "class": {"system": f"{_TERMINOLOGY}/v3-ActCode", "code": "IMP" if row["inpatient"] else "AMB"},
        "subject": {"reference": f"Patient/{row['patient_id']}"},
        "period": {"start": _instant(row["admitted"]), "end": _instant(row["discharged"])},
        "diagnosis": diagnoses,
    }


def _condition(identifier: str, row: Resource, title: str) -> Resource:
    system, _, code = row["code"].partition("_")
    category = {"system": f"{_TERMINOLOGY}/condition-category", "code": "encounter-diagnosis"}
    return {
        "resourceType": "Condition",
        "id": identifier,
        "category": [{"coding": [category]}],
        "code": {"coding": [{"system": _SYSTEMS[system], "code": code, "display": title}]},
        "subject": {"reference": f"Patient/{row['patient_id']}"},
        "encounter": {"reference": f"Encounter/{row['visit_id']}"},
        "recordedDate": _instant(row["time"]),
    }


def _instant(time: datetime) -> str:
    """Return a time in UTC: FHIR requires a time zone, and simulated times have none."""
    return f"{time.isoformat()}Z"


def _append(files: ChunkFiles, kind: str, resources: Iterable[Resource]) -> None:
    with open(files.text_part(f"{kind}.ndjson"), "w", encoding="utf-8") as file:
        file.writelines(f"{_encode(resource)}\n" for resource in resources)


FHIR_FORMAT = RecordFormat(title="FHIR R4 as NDJSON", write=_write, most_patients=20_000)
