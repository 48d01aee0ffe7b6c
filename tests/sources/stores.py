"""Small stores to read, and what comes out of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ehr_bert.engines import Engine
from ehr_bert.sources.store import NestedVisits, Store, WithoutVisit, checked_diagnoses, patient_rows


def write_tables(folder: Path, tables: Mapping[str, str]) -> Path:
    """Writes each table as CSV; its text has a row a line, blanks at the lines' ends left out."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in tables.items():
        lines = [line.strip() for line in text.strip().splitlines()]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def rows_of(
    engine: Engine,
    store: Store,
    *columns: str,
    without_visit: WithoutVisit = WithoutVisit.REJECT,
    nested: NestedVisits = NestedVisits.KEEP,
) -> list[Any]:
    """The diagnoses of a store, in the order of their rows; a single column's values, or tuples."""
    rows = engine.collect(checked_diagnoses(store, without_visit, nested).order_by("row")).to_pylist()
    return [_picked(row, columns) for row in rows]


def patients_by_id(engine: Engine, store: Store) -> dict[str, dict[str, Any]]:
    """The patients of a store."""
    return {row.pop("patient_id"): row for row in engine.collect(patient_rows(store)).to_pylist()}


def _picked(row: Mapping[str, Any], columns: Sequence[str]) -> Any:
    values = tuple(str(row[name]) if name.endswith("_date") else row[name] for name in columns)
    return values[0] if len(values) == 1 else values
