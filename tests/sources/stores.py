"""Small stores, and their diagnoses and patients."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ehr_bert.engines import Engine
from ehr_bert.sources.records import (
    NestedVisits,
    StoreRecords,
    WithoutVisit,
    checked_diagnoses,
    patient_rows,
)


def write_tables(folder: Path, tables: Mapping[str, str]) -> Path:
    """Write each table as CSV. Blanks around the lines of its text are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in tables.items():
        lines = [line.strip() for line in text.strip().splitlines()]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def rows_of(
    engine: Engine,
    records: StoreRecords,
    *columns: str,
    without_visit: WithoutVisit = WithoutVisit.REJECT,
    nested: NestedVisits = NestedVisits.KEEP,
) -> list[Any]:
    """Return columns of the diagnoses, sorted by row: the values of one column, or tuples."""
    rows = engine.collect(checked_diagnoses(records, without_visit, nested).order_by("row")).to_pylist()
    return [_selected(row, columns) for row in rows]


def patients_by_id(engine: Engine, records: StoreRecords) -> dict[str, dict[str, Any]]:
    """Return the patients by id."""
    return {row.pop("patient_id"): row for row in engine.collect(patient_rows(records)).to_pylist()}


def _selected(row: Mapping[str, Any], columns: Sequence[str]) -> Any:
    values = tuple(str(row[name]) if name.endswith("_date") else row[name] for name in columns)
    return values[0] if len(values) == 1 else values
