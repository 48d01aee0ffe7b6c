"""The extracted folder: events, patients and splits of a store, rejected rows, and a summary."""

import logging
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, NoReturn

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from ehr_bert.engines import Engine
from ehr_bert.errors import UserError
from ehr_bert.files import SUMMARY_FILE, atomic_folder, write_json
from ehr_bert.logs import warn
from ehr_bert.schemas import EVENTS, PATIENTS, REJECTED, SPLITS, ObservationEndReason, Split
from ehr_bert.sources.checks import CheckedEvents, RejectionReason, unreadable_values
from ehr_bert.sources.parquet import read_event_parquet
from ehr_bert.sources.records import (
    NestedVisits,
    StoreRecords,
    WithoutVisit,
    checked_diagnoses,
    patient_rows,
    with_reasons_of_ends,
)
from ehr_bert.sources.summary import Tally, summarise_extraction
from ehr_bert.sources.tables import as_text
from ehr_bert.sources.times import day, local_times

logger = logging.getLogger(__name__)

EVENTS_FOLDER = "events"
DIAGNOSES_FOLDER = "diagnoses"
"""The folder of the event table in folders that version 0.1 wrote."""

PATIENTS_FILE = "patients.parquet"
SPLITS_FILE = "splits.parquet"

_FILE_ROWS = 1_000_000
"""Rows per Parquet file."""

_BATCH_ROWS = 100_000
"""Rows of patients or rejected rows that are in memory at a time."""

_REMEDIES = {
    RejectionReason.NO_VISIT: "Use --without-visit keep to convert each of them to a one-day visit.",
    RejectionReason.UNKNOWN_VOCABULARY: "Use ICD-9-CM, ICD-10 or SNOMED codes, or name the code system.",
    RejectionReason.CONDITION_TYPE: "Check that the store contains the condition types of --condition-types.",
    RejectionReason.UNKNOWN_VISIT: "Check that this table contains all visits, under the same ids.",
    RejectionReason.UNKNOWN_PATIENT: "Check that this table contains all patients, under the same ids.",
}
"""How to fix a store of which every row is rejected, by the most frequent reason."""


def write_extracted_folder(
    engine: Engine,
    records: StoreRecords,
    where: str,
    folder: Path,
    without_visit: WithoutVisit = WithoutVisit.REJECT,
    nested: NestedVisits = NestedVisits.KEEP,
    extraction_date: date | None = None,
) -> dict[str, Any]:
    """Extract the diagnoses of a store to a folder, which is written atomically.

    Args:
        engine: Engine of the computation.
        records: Records of the store.
        where: Path or URL of the store, for messages.
        folder: Folder for `events/*.parquet`, `patients.parquet`, `rejected.parquet`, `summary.json` and,
            if the store defines splits, `splits.parquet`.
        without_visit: How to treat diagnoses without a visit id.
        nested: How to treat visits within other visits.
        extraction_date: Last day that the store covers, as for `patient_rows`.

    Returns:
        The contents of `summary.json`.

    Raises:
        UserError: No diagnosis can be used (keys `no-diagnosis`, `no-usable-diagnosis`), a reason for the
            end of observation is unknown (`unknown-observation-end-reason`), a split is unknown or a patient
            is in two (`unknown-split`, `patients-in-two-splits`), or `folder` exists and was not written by
            `extract` (`output-not-empty`).
    """
    with atomic_folder(folder, "extract") as temporary:
        with _progress("reading the store", "store") as progress:
            rows = engine.materialise(checked_diagnoses(records, without_visit, nested).drop("record", "row"))
            progress.update()
        tally = _tally(engine, records, rows)
        if not tally.usable:
            raise _no_usable_diagnosis(engine, records, tally, without_visit, nested).prefixed(f"{where}: ")
        usable = rows.filter(rows.reason.isnull()).select(*EVENTS.names).distinct()
        with _progress("writing events", "table") as progress:
            ordered = usable.order_by(*EVENTS.names)
            engine.write_parquet([ordered], temporary / EVENTS_FOLDER, EVENTS, _FILE_ROWS)
            progress.update()
        engine.drop(rows)
        patients = patient_rows(records, extraction_date)
        _check_reasons_of_ends(engine, patients, where)
        _write(engine, patients.order_by("patient_id"), PATIENTS, temporary / PATIENTS_FILE)
        splits = None
        if records.splits is not None:
            splits = _checked_splits(engine, records.splits, where)
            _write(engine, splits.order_by("patient_id"), SPLITS, temporary / SPLITS_FILE)
        rejected = rejected_rows(records, without_visit, nested) if tally.rejected else None
        _write(engine, rejected, REJECTED, temporary / "rejected.parquet")
        summary = summarise_extraction(
            engine,
            engine.read_parquet(temporary / EVENTS_FOLDER),
            patients,
            splits,
            tally,
            extraction_date,
        )
        late = summary.get("visits_after_extraction_date")
        if late:
            warn(
                logger,
                "discharge-after-extraction-date",
                f"{where}: {late:,} visits end after the extraction date {extraction_date}. They are kept. "
                "Check --extraction-date.",
            )
        write_json(temporary / SUMMARY_FILE, summary)
    return summary


def is_extracted_folder(folder: Path) -> bool:
    """Return whether `write_extracted_folder` wrote a folder, in this version or in version 0.1."""
    return _events_folder(folder).is_dir()


def _events_folder(folder: Path) -> Path:
    events, diagnoses = folder / EVENTS_FOLDER, folder / DIAGNOSES_FOLDER
    return diagnoses if diagnoses.is_dir() and not events.is_dir() else events


def read_extracted_folder(engine: Engine, folder: Path) -> CheckedEvents:
    """Read a folder that `write_extracted_folder` wrote.

    Version 0.1 wrote diagnoses to `diagnoses`, and no `observation_end_reason`; the column is null then.

    Raises:
        UserError: A table or column is missing (keys `missing-table`, `missing-column`), the folder has both
            `events` and `diagnoses` (`two-event-tables`), a day is not a date (`not-a-date`), a
            patient has several rows (`duplicate-patient`), a reason for the end of observation is unknown
            (`unknown-observation-end-reason`), a split is unknown (`unknown-split`), or a patient is in two
            splits (`patients-in-two-splits`).
    """
    patients, splits = folder / PATIENTS_FILE, folder / SPLITS_FILE
    if (folder / EVENTS_FOLDER).is_dir() and (folder / DIAGNOSES_FOLDER).is_dir():
        raise UserError(
            "two-event-tables",
            f"{folder} contains the event tables {EVENTS_FOLDER} and {DIAGNOSES_FOLDER}. Remove one of them.",
        )
    if not patients.exists():
        raise UserError(
            "missing-table",
            f"{patients} is missing. Extract again, or read only the events in {_events_folder(folder)}.",
        )
    patient_table = with_reasons_of_ends(
        _read(engine, patients, PATIENTS, optional=("observation_end_reason",))
    )
    _check_reasons_of_ends(engine, patient_table, str(patients))
    count = _repeated_patients(engine, patient_table)
    if count:
        raise UserError(
            "duplicate-patient",
            f"{patients}: {count:,} patients have several rows. Keep one row each.",
        )
    events = read_event_parquet(engine, _events_folder(folder))
    if not splits.exists():
        return replace(events, patients=patient_table)
    split_table = _checked_splits(engine, _read(engine, splits, SPLITS), str(splits))
    return replace(events, patients=patient_table, splits=split_table)


def _read(engine: Engine, path: Path, schema: pa.Schema, optional: Collection[str] = ()) -> ir.Table:
    table = engine.read_parquet(path)
    table = table.mutate(**{name: ibis.null("string") for name in optional if name not in table.columns})
    missing = [name for name in schema.names if name not in table.columns]
    if missing:
        raise UserError(
            "missing-column",
            f"{path} has no column {', '.join(missing)}. Its columns must include {', '.join(schema.names)}.",
        )
    table = table.select(*schema.names)
    texts = local_times(engine, table, None)
    texts = texts.select(**{name: as_text(texts[name]) for name in texts.columns})
    dates = [field.name for field in schema if pa.types.is_date(field.type)]
    if dates:
        unreadable = {name: (texts[name].notnull() & day(texts[name]).isnull()).any() for name in dates}
        has_unreadable = engine.collect(texts.aggregate(**unreadable)).to_pylist()[0]
        if wrong := [name for name in dates if has_unreadable[name]]:
            raise UserError(
                "not-a-date",
                f"{path} has values that are not dates in the columns {', '.join(wrong)}. Use dates, or "
                "texts of the form YYYY-MM-DD.",
            )
    return texts.mutate(**{name: day(texts[name]) for name in dates})


def rejected_rows(records: StoreRecords, without_visit: WithoutVisit, nested: NestedVisits) -> ir.Table:
    """Return `REJECTED`, sorted by reason, and `record`. `row` includes the days of the visit."""
    rows = checked_diagnoses(records, without_visit, nested)
    return (
        rows.filter(rows.reason.notnull())
        .select(line=ibis.null("int64"), reason="reason", row="row", record="record")
        .order_by("reason", "row")
    )


def _tally(engine: Engine, records: StoreRecords, rows: ir.Table) -> Tally:
    groups = engine.collect(
        rows.group_by("reason", "unreadable").aggregate(
            rows=rows.count(),
            one_day_visits=rows.is_one_day_visit.cast("int64").sum(),
            nested=rows.is_nested.cast("int64").sum(),
        )
    ).to_pylist()
    usable = [group for group in groups if group["reason"] is None]
    rejected: Counter[str] = Counter()
    for group in groups:
        if group["reason"] is not None:
            rejected[group["reason"]] += group["rows"]
    read = engine.collect(records.diagnoses.aggregate(rows=records.diagnoses.count()))["rows"][0].as_py()
    return Tally(
        read=read,
        usable=sum(group["rows"] for group in usable),
        rejected=dict(sorted(rejected.items())),
        unreadable=unreadable_values((group["unreadable"], group["rows"]) for group in usable),
        one_day_visits=sum(group["one_day_visits"] for group in usable),
        nested=sum(group["nested"] for group in usable),
    )


def _checked_splits(engine: Engine, splits: ir.Table, where: str) -> ir.Table:
    """Return one row per patient.

    Args:
        engine: Engine of the computation.
        splits: `SPLITS`.
        where: Source of the splits, for messages.
    """
    distinct = splits.select(*SPLITS.names).distinct()
    names = set(engine.collect(distinct.select("split").distinct())["split"].to_pylist())
    unknown = names - set(Split)
    if unknown:
        raise UserError(
            "unknown-split",
            f"{where}: unknown split {', '.join(sorted(map(str, unknown)))}. "
            f"Name the splits {', '.join(Split)}.",
        )
    count = _repeated_patients(engine, distinct)
    if count:
        raise UserError(
            "patients-in-two-splits", f"{where}: {count:,} patients are in two splits. Put each in one split."
        )
    return distinct


def _check_reasons_of_ends(engine: Engine, patients: ir.Table, where: str) -> None:
    """Check that every reason for the end of observation is an `ObservationEndReason` or null."""
    reasons = engine.collect(patients.select("observation_end_reason").distinct())
    unknown = set(reasons["observation_end_reason"].to_pylist()) - {None, *ObservationEndReason}
    if unknown:
        raise UserError(
            "unknown-observation-end-reason",
            f"{where}: unknown observation_end_reason {', '.join(sorted(unknown))}. "
            f"Use {', '.join(ObservationEndReason)}, or leave it empty.",
        )


def _repeated_patients(engine: Engine, table: ir.Table) -> int:
    """Return the number of patients with several rows."""
    patients = table.group_by("patient_id").aggregate(rows=table.count())
    repeated = patients.filter(patients.rows > 1)
    return engine.collect(repeated.aggregate(patients=repeated.count()))["patients"][0].as_py()


def _no_usable_diagnosis(
    engine: Engine, records: StoreRecords, tally: Tally, without_visit: WithoutVisit, nested: NestedVisits
) -> UserError:
    """Return the error for a store without usable diagnoses, with the most frequent reason."""
    table = records.names.code.split(".")[0]
    if not tally.rejected:
        return UserError("no-diagnosis", f"{table} contains no diagnosis. Check the store and its options.")
    reason, count = max(tally.rejected.items(), key=lambda item: item[1])
    rejected = rejected_rows(records, without_visit, nested)
    rejected = rejected.filter(rejected.reason == reason).limit(3)
    examples = [record.replace("\t", " ") for record in engine.collect(rejected)["record"].to_pylist()]
    remedies = (remedy for start, remedy in _REMEDIES.items() if reason.startswith(start))
    return UserError(
        "no-usable-diagnosis",
        f"all {tally.read:,} rows of {table} are rejected, {count:,} of them for the reason {reason!r} "
        f"(first rows: {'; '.join(examples)}). {next(remedies, 'Correct the table.')}",
    )


def _progress(description: str, unit: str) -> "tqdm[NoReturn]":
    """Return a progress bar of one step, which is hidden with `--quiet`."""
    return tqdm(desc=description, total=1, unit=unit, disable=not logger.isEnabledFor(logging.INFO))


def _write(engine: Engine, table: ir.Table | None, schema: pa.Schema, path: Path) -> None:
    """Write the columns of `schema` to one Parquet file, which is empty if there is no table."""
    with pq.ParquetWriter(path, schema) as writer:
        if table is not None:
            for batch in engine.batches([table.select(*schema.names)], _BATCH_ROWS):
                writer.write_table(pa.Table.from_batches([batch]).cast(schema))
