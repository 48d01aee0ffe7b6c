"""MEDS 0.4: events of subjects by split, and metadata."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ehr_bert import __version__
from ehr_bert.files import write_json
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

_DATA = pa.schema(
    {
        "subject_id": pa.int64(),
        "time": pa.timestamp("us"),
        "code": pa.string(),
        "numeric_value": pa.float32(),
        "visit_id": pa.int64(),
    }
)
"""Data schema of MEDS, and the visit of an event."""

_SPLITS = {"train": range(7), "tuning": range(7, 8), "held_out": range(8, 10)}
"""Splits by the last digit of the subject id. Patients are drawn independently, so this is a random split."""

_DAY = 24 * 3600 * 10**6

_PREFIXES = {system: f"{vocabulary}//" for system, vocabulary in VOCABULARIES.items()}


def _write(records: SimulatedRecords, files: ChunkFiles) -> None:
    data = _data(records)
    digit = data["subject_id"].to_numpy() % 10
    patients = numbers(records.patients["patient_id"])
    split = np.empty(10, object)
    for name, digits in _SPLITS.items():
        split[list(digits)] = name
        is_member = np.isin(digit, digits)
        if is_member.any():
            files.write_table(f"data/{name}", data.filter(pa.array(is_member)))
    splits = pa.table({"subject_id": patients, "split": pa.array(split[patients % 10])})
    files.write_part("subject_splits.parquet", splits)


def _data(records: SimulatedRecords) -> pa.Table:
    """Return the events in the order of subject and time. Events without time come first.

    At equal times, admissions come before and discharges after diagnoses. Of a death, only the day is known,
    so it has the last second of that day.
    """
    patients, visits, events = records.patients, records.visits, records.events
    subject = numbers(patients["patient_id"])
    is_dead = pc.is_valid(patients["death_date"])
    died = pc.filter(patients["death_date"], is_dead)
    visitor = numbers(visits["patient_id"])
    inpatient = visits["inpatient"]
    last_second = pa.scalar(_DAY - 10**6, pa.duration("us"))
    groups = [
        (subject, None, pc.binary_join_element_wise("GENDER", patients["sex"], "//"), None),
        (subject, patients["birth_date"].cast(pa.timestamp("us")), "MEDS_BIRTH", None),
        (
            visitor,
            visits["admitted"],
            pc.if_else(inpatient, "HOSPITAL_ADMISSION", "VISIT_START//OUTPATIENT"),
            visits["visit_id"],
        ),
        (
            numbers(events["patient_id"]),
            events["time"],
            code_spellings(_PREFIXES).take(pa.array(code_numbers(events["code"]))),
            events["visit_id"],
        ),
        (
            visitor,
            visits["discharged"],
            pc.if_else(inpatient, "HOSPITAL_DISCHARGE", "VISIT_END//OUTPATIENT"),
            visits["visit_id"],
        ),
        (
            subject[is_dead.to_numpy(zero_copy_only=False)],
            pc.add(died.cast(pa.timestamp("us")), last_second),
            "MEDS_DEATH",
            None,
        ),
    ]
    table = pa.concat_tables(
        [
            table_of(
                _DATA, len(subjects), {"subject_id": subjects, "time": time, "code": code, "visit_id": visit}
            )
            for subjects, time, code, visit in groups
        ]
    )
    time = table["time"].cast(pa.int64()).fill_null(np.iinfo(np.int64).min).to_numpy()
    return table.take(pa.array(np.lexsort((time, table["subject_id"].to_numpy()))))  # the sort is stable


def _finish(folder: Path, codes: Sequence[str]) -> None:
    """Write the metadata."""
    metadata = folder / "metadata"
    metadata.mkdir()
    (folder / "subject_splits.parquet").rename(metadata / "subject_splits.parquet")
    prefixed = [_PREFIXES[system] + code for system, _, code in (code.partition("_") for code in codes)]
    schema = pa.schema(
        {"code": pa.string(), "description": pa.string(), "parent_codes": pa.list_(pa.string())}
    )
    table = table_of(
        schema, len(codes), {"code": prefixed, "description": [title_of_code(code) for code in codes]}
    )
    pq.write_table(table, metadata / "codes.parquet")
    description = {
        "dataset_name": "Synthetic patients of EHR-BERT",
        "dataset_version": __version__,
        "etl_name": "ehr-bert simulate",
        "etl_version": __version__,
        "meds_version": "0.4.0",
    }
    write_json(metadata / "dataset.json", description)


MEDS_FORMAT = RecordFormat(title="MEDS 0.4", write=_write, finish=_finish)
