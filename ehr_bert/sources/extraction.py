"""The extracted folder: a store's diagnoses, its patients and splits, what was rejected, and a summary."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from ehr_bert.engines import Engine
from ehr_bert.errors import UserError
from ehr_bert.files import SUMMARY_FILE, atomic_folder, write_json
from ehr_bert.schemas import DIAGNOSES, PATIENTS, REJECTED, SPLITS, Split
from ehr_bert.sources.checks import Diagnoses, RejectionReason
from ehr_bert.sources.parquet import read_diagnosis_parquet
from ehr_bert.sources.store import NestedVisits, Store, WithoutVisit, checked_diagnoses, patient_rows
from ehr_bert.sources.summary import Tally, summarise_extraction

DIAGNOSES_FOLDER = "diagnoses"
PATIENTS_FILE = "patients.parquet"
SPLITS_FILE = "splits.parquet"

_FILE_ROWS = 1_000_000
"""Diagnoses in a Parquet file, but for the last."""

_BATCH_ROWS = 100_000
"""Rows that pass through this process at a time."""

_MENDS = {
    RejectionReason.NO_VISIT: "--without-visit keep makes a one-day visit of each",
    RejectionReason.UNKNOWN_VOCABULARY: "--source-vocabulary names it",
    RejectionReason.CONDITION_TYPE: "--condition-types must name types that the store has",
    RejectionReason.UNKNOWN_VISIT: "are all visits in that table, under the same ids?",
    RejectionReason.UNKNOWN_PATIENT: "are all patients in that table, under the same ids?",
}


def write_extracted_folder(
    engine: Engine,
    store: Store,
    where: str,
    folder: Path,
    without_visit: WithoutVisit = WithoutVisit.REJECT,
    nested: NestedVisits = NestedVisits.KEEP,
) -> dict[str, Any]:
    """Extracts the diagnoses of a store into a folder, which is whole or absent.

    Args:
        engine: Where to compute.
        store: The store.
        where: What the user calls it, for messages.
        folder: The folder to write: `diagnoses/*.parquet`, `patients.parquet`, `rejected.parquet`,
            `summary.json` and, where the store has splits, `splits.parquet`.
        without_visit: What becomes of diagnoses that name no visit.
        nested: What becomes of visits inside others.

    Returns:
        The summary.

    Raises:
        UserError: no diagnosis can be used, or `folder` is something else.
    """
    with atomic_folder(folder, "extract") as temporary:
        with tqdm(desc="reading the store", total=1, unit="store") as progress:
            rows = engine.materialise(checked_diagnoses(store, without_visit, nested).drop("record", "row"))
            progress.update()
        tally = _tally(engine, store, rows)
        if not tally.usable:
            raise UserError(_why_nothing_is_usable(engine, store, where, tally, without_visit, nested))
        usable = rows.filter(rows.reason.isnull()).select(*DIAGNOSES.names).distinct()
        with tqdm(desc="writing diagnoses", total=1, unit="table") as progress:
            ordered = usable.order_by(*DIAGNOSES.names)
            engine.write_parquet([ordered], temporary / DIAGNOSES_FOLDER, DIAGNOSES, _FILE_ROWS)
            progress.update()
        engine.drop(rows)
        patients = patient_rows(store)
        _write(engine, patients.order_by("patient_id"), PATIENTS, temporary / PATIENTS_FILE)
        splits = None
        if store.splits is not None:
            splits = _checked_splits(engine, store.splits, where, "train, tuning and held_out")
            _write(engine, splits.order_by("patient_id"), SPLITS, temporary / SPLITS_FILE)
        rejected = rejected_rows(store, without_visit, nested) if tally.rejected else None
        _write(engine, rejected, REJECTED, temporary / "rejected.parquet")
        summary = summarise_extraction(
            engine, engine.read_parquet(temporary / DIAGNOSES_FOLDER), patients, splits, tally
        )
        write_json(temporary / SUMMARY_FILE, summary)
    return summary


def read_extracted_folder(engine: Engine, folder: Path) -> Diagnoses:
    """Reads what `write_extracted_folder` wrote.

    Raises:
        UserError: a table lacks, or a column of one; a patient is in one twice; or a split is strange.
    """
    patients, splits = folder / PATIENTS_FILE, folder / SPLITS_FILE
    if not patients.exists():
        raise UserError(
            f"{patients} is missing: extract again, or name {folder / DIAGNOSES_FOLDER}, which is read alone"
        )
    known = _read(engine, patients, PATIENTS)
    rows = known.group_by("patient_id").aggregate(rows=known.count())
    twice = rows.filter(rows.rows > 1)
    count = engine.collect(twice.aggregate(patients=twice.count()))["patients"][0].as_py()
    if count:
        raise UserError(f"{patients}: {count:,} patients have several rows: leave one of each")
    diagnoses = read_diagnosis_parquet(engine, folder / DIAGNOSES_FOLDER)
    if not splits.exists():
        return replace(diagnoses, patients=known)
    sides = _checked_splits(engine, _read(engine, splits, SPLITS), str(splits), ", ".join(Split))
    return replace(diagnoses, patients=known, splits=sides)


def _read(engine: Engine, path: Path, schema: pa.Schema) -> ir.Table:
    table = engine.read_parquet(path)
    missing = [name for name in schema.names if name not in table.columns]
    if missing:
        raise UserError(f"{path} has no column {', '.join(missing)}: it must have {', '.join(schema.names)}")
    return table.select(*schema.names)


def rejected_rows(store: Store, without_visit: WithoutVisit, nested: NestedVisits) -> ir.Table:
    """`REJECTED` by reason, and `record`; the rows are the store's, with the days of their visit."""
    rows = checked_diagnoses(store, without_visit, nested)
    return (
        rows.filter(rows.reason.notnull())
        .select(line=ibis.null("int64"), reason="reason", row="row", record="record")
        .order_by("reason", "row")
    )


def _tally(engine: Engine, store: Store, rows: ir.Table) -> Tally:
    groups = engine.collect(
        rows.group_by("reason").aggregate(
            rows=rows.count(),
            unreadable=rows.unreadable.sum(),
            lone=rows.is_lone.cast("int64").sum(),
            nested=rows.is_nested.cast("int64").sum(),
        )
    ).to_pylist()
    by_reason = {group["reason"]: group for group in groups}
    usable = by_reason.pop(None, {"rows": 0, "unreadable": 0, "lone": 0, "nested": 0})
    read = engine.collect(store.diagnoses.aggregate(rows=store.diagnoses.count()))["rows"][0].as_py()
    return Tally(
        read=read,
        usable=usable["rows"],
        rejected={reason: by_reason[reason]["rows"] for reason in sorted(by_reason)},
        unreadable=usable["unreadable"],
        lone=usable["lone"],
        nested=usable["nested"],
    )


def _checked_splits(engine: Engine, splits: ir.Table, where: str, known: str) -> ir.Table:
    """A row a patient.

    Args:
        engine: Where to compute.
        splits: `SPLITS`.
        where: What the user calls them, for messages.
        known: And what the splits.

    Raises:
        UserError: a split is none of `Split`, or a patient is in two.
    """
    distinct = splits.select(*SPLITS.names).distinct()
    names = set(engine.collect(distinct.select("split").distinct())["split"].to_pylist())
    strange = names - set(Split)
    if strange:
        raise UserError(
            f"{where}: no split is called {', '.join(sorted(map(str, strange)))}: there are {known}"
        )
    patients = distinct.group_by("patient_id").aggregate(splits=distinct.count())
    twice = patients.filter(patients.splits > 1)
    count = engine.collect(twice.aggregate(rows=twice.count()))["rows"][0].as_py()
    if count:
        raise UserError(f"{where}: {count:,} patients are in two splits: put each in one")
    return distinct


def _why_nothing_is_usable(
    engine: Engine, store: Store, where: str, tally: Tally, without_visit: WithoutVisit, nested: NestedVisits
) -> str:
    table = store.names.code.split(".")[0]
    if not tally.rejected:
        return f"{where}: {table} holds no diagnosis"
    reason, count = max(tally.rejected.items(), key=lambda item: item[1])
    rejected = rejected_rows(store, without_visit, nested)
    rejected = rejected.filter(rejected.reason == reason).limit(3)
    first = "; ".join(record.replace("\t", " ") for record in engine.collect(rejected)["record"].to_pylist())
    mend = next((f": {mend}" for start, mend in _MENDS.items() if reason.startswith(start)), "")
    return (
        f"{where}: none of {tally.read:,} rows of {table} can be used; {count:,} for: {reason} "
        f"(the first: {first}){mend}"
    )


def _write(engine: Engine, table: ir.Table | None, schema: pa.Schema, path: Path) -> None:
    """Writes the columns of `schema` as one Parquet file, without rows if there is no table."""
    with pq.ParquetWriter(path, schema) as writer:
        if table is not None:
            for batch in engine.batches([table.select(*schema.names)], _BATCH_ROWS):
                writer.write_table(pa.Table.from_batches([batch]).cast(schema))
