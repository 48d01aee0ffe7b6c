"""FHIR R4 as NDJSON: one file of patients, encounters and conditions each."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import pyarrow as pa

from ehr_bert.simulation.formats.coded import title_of_code
from ehr_bert.simulation.formats.parts import ChunkFiles
from ehr_bert.simulation.formats.record_format import RecordFormat
from ehr_bert.simulation.records import SimulatedRecords

_SYSTEMS = {"ICD9": "http://hl7.org/fhir/sid/icd-9-cm", "ICD10": "http://hl7.org/fhir/sid/icd-10-cm"}
_GENDERS = {"F": "female", "M": "male"}
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"

_CONDITION_COLUMNS = ["patient_id", "visit_id", "time", "code", "priority"]

_ROWS_AT_A_TIME = 10_000
"""Number of rows that are converted to Python objects at a time."""

Resource = dict[str, Any]

_encode = json.JSONEncoder(separators=(",", ":")).encode


def _write(records: SimulatedRecords, files: ChunkFiles) -> None:
    """Write the records row by row: FHIR is nested, and meant for few patients."""
    ranks: dict[int, list[tuple[str, int]]] = defaultdict(list)

    def conditions() -> Iterator[Resource]:
        for number, row in enumerate(_rows(records.events.select(_CONDITION_COLUMNS))):
            identifier = f"{files.number}-{number}"
            ranks[row["visit_id"]].append((identifier, row["priority"]))
            yield _condition(identifier, row)

    _append(files, "Patient", map(_patient, _rows(records.patients)))
    _append(files, "Condition", conditions())
    _append(files, "Encounter", (_encounter(row, ranks[row["visit_id"]]) for row in _rows(records.visits)))


def _rows(table: pa.Table) -> Iterator[Resource]:
    """Yield the rows as dicts, few at a time."""
    for batch in table.to_batches(_ROWS_AT_A_TIME):
        yield from batch.to_pylist()


def _patient(row: Resource) -> Resource:
    died = row["death_date"]
    return {
        "resourceType": "Patient",
        "id": row["patient_id"],
        "gender": _GENDERS[row["sex"]],
        "birthDate": row["birth_date"].isoformat(),
        **({"deceasedDateTime": died.isoformat()} if died else {}),
    }


def _encounter(row: Resource, ranks: list[tuple[str, int]]) -> Resource:
    return {
        "resourceType": "Encounter",
        "id": str(row["visit_id"]),
        "status": "finished",
        "class": {"system": f"{_TERMINOLOGY}/v3-ActCode", "code": "IMP" if row["inpatient"] else "AMB"},
        "subject": {"reference": f"Patient/{row['patient_id']}"},
        "period": {"start": _instant(row["admitted"]), "end": _instant(row["discharged"])},
        "diagnosis": [
            {"condition": {"reference": f"Condition/{identifier}"}, "rank": rank}
            for identifier, rank in ranks
        ],
    }


def _condition(identifier: str, row: Resource) -> Resource:
    system, _, code = row["code"].partition("_")
    coding = {"system": _SYSTEMS[system], "code": code, "display": title_of_code(row["code"])}
    category = {"system": f"{_TERMINOLOGY}/condition-category", "code": "encounter-diagnosis"}
    return {
        "resourceType": "Condition",
        "id": identifier,
        "category": [{"coding": [category]}],
        "code": {"coding": [coding]},
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
