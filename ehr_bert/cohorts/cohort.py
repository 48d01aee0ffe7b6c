"""A cohort in memory: flat arrays, split into examples and visits by offsets.

Dimensions: N examples, C codes of all histories, K visits of all histories, U distinct codes.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ehr_bert.cohorts.task_columns import kind_of_column
from ehr_bert.errors import UserError
from ehr_bert.files import SUMMARY_FILE, read_json
from ehr_bert.ragged import offsets_of, spans
from ehr_bert.schemas import COHORT, OBSERVATION, TASK_COLUMNS, Split

COHORT_FOLDER = "cohort"
"""Name of the folder of Parquet files in the output of `ehr-bert cohort`."""

_READ = pa.schema([field for field in COHORT if field.name not in OBSERVATION.names])
"""The columns that are read. Those of `OBSERVATION` are not, so that no model can use them."""


@dataclass(frozen=True)
class Histories:
    """Histories of examples.

    Attributes:
        vocabulary: The distinct codes, including context tokens, sorted: object `[U]`.
        codes: Positions in `vocabulary`: int32 `[C]`.
        visit_ids: Visit of each code, from 1 in each example, non-decreasing: int32 `[C]`.
        code_offsets: Start of each example's codes, and the end: int64 `[N + 1]`.
        admit_date: Admission date of each visit, NaT if unknown: datetime64[D] `[K]`.
        los_days: Length of stay of each visit in days: int32 `[K]`.
        visit_offsets: Start of each example's visits, and the end: int64 `[N + 1]`.
    """

    vocabulary: np.ndarray
    codes: np.ndarray
    visit_ids: np.ndarray
    code_offsets: np.ndarray
    admit_date: np.ndarray
    los_days: np.ndarray
    visit_offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.code_offsets) - 1

    @cached_property
    def lengths(self) -> np.ndarray:
        """Number of codes of each example: int64 `[N]`."""
        return np.diff(self.code_offsets)

    @cached_property
    def visits(self) -> np.ndarray:
        """Number of visits of each example: int64 `[N]`."""
        return np.diff(self.visit_offsets)

    @cached_property
    def example(self) -> np.ndarray:
        """The example of each code: int64 `[C]`."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def take(self, rows: np.ndarray) -> "Histories":
        """Return the histories of some examples, in the order of `rows`, which are int64."""
        codes, code_offsets = _positions_of(self.code_offsets, rows)
        visits, visit_offsets = _positions_of(self.visit_offsets, rows)
        return Histories(
            vocabulary=self.vocabulary,
            codes=self.codes[codes],
            visit_ids=self.visit_ids[codes],
            code_offsets=code_offsets,
            admit_date=self.admit_date[visits],
            los_days=self.los_days[visits],
            visit_offsets=visit_offsets,
        )


@dataclass(frozen=True)
class Cohort:
    """Examples of a cohort: patients at their index dates.

    Attributes:
        patient_ids: Patient ids, which must not be shown or logged: object `[N]`.
        index_date: Index dates, NaT if unknown: datetime64[D] `[N]`.
        split: Values of `Split`: object `[N]`.
        sex: Text, None if unknown: object `[N]`.
        age: Completed years at the index date, NaN if unknown: float64 `[N]`.
        histories: Histories up to the index date.
        tasks: Columns of the tasks by name, each `[N]` and of a type that `kind_of_column` knows.
        facts: The content of the folder's `summary.json`.
    """

    patient_ids: np.ndarray
    index_date: np.ndarray
    split: np.ndarray
    sex: np.ndarray
    age: np.ndarray
    histories: Histories
    tasks: dict[str, pa.Array]
    facts: dict[str, Any]

    def __len__(self) -> int:
        return len(self.patient_ids)

    def kind(self, task: str) -> str:
        """Return the task type of a task, by the type of its column."""
        kind = kind_of_column(self.tasks[task].type)
        assert kind is not None  # as `cohort_of` has checked
        return kind

    def labels(self, task: str) -> np.ndarray:
        """Return the labels of a binary task or a regression, NaN if missing: float64 `[N]`."""
        return pc.cast(self.tasks[task], pa.float64()).to_numpy(zero_copy_only=False)

    def take(self, rows: np.ndarray) -> "Cohort":
        """Return some examples, in the order of `rows`, which are int64, or a mask: bool `[N]`."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        return replace(
            self,
            patient_ids=self.patient_ids[rows],
            index_date=self.index_date[rows],
            split=self.split[rows],
            sex=self.sex[rows],
            age=self.age[rows],
            histories=self.histories.take(rows),
            tasks={name: column.take(pa.array(rows)) for name, column in self.tasks.items()},
        )

    def of(self, split: Split) -> "Cohort":
        """Return the examples of one split."""
        return self.take(self.split == split.value)


def read_cohort(folder: Path) -> Cohort:
    """Read a cohort folder.

    Args:
        folder: The output of `ehr-bert cohort`.

    Raises:
        UserError: The folder is not a cohort (key `not-a-cohort`), or a file cannot be read
            (`unreadable-file`).
    """
    files = sorted((folder / COHORT_FOLDER).glob("*.parquet"))
    if not files:
        raise UserError(
            "not-a-cohort", f"{folder} is not a cohort folder. Create one with `ehr-bert cohort`."
        )
    try:
        table = pa.concat_tables([pq.read_table(file) for file in files])
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(
            "unreadable-file", f"{folder / COHORT_FOLDER} cannot be read: {error}. Build the cohort again."
        ) from error
    return cohort_of(table, read_json(folder / SUMMARY_FILE), str(folder))


def cohort_of(table: pa.Table, facts: dict[str, Any], where: str) -> Cohort:
    """Return a table as a cohort.

    Args:
        table: The columns of `COHORT`, and one column per task. N rows. The columns of `OBSERVATION`, which
            tables of version 0.1 do not have, may be missing.
        facts: The content of the summary.
        where: Name of the table, for messages.

    Raises:
        UserError: A column is missing (key `missing-column`) or has another type (`column-type`), or the
            lists of a history differ in length (`list-lengths-differ`).
    """
    for name in _READ.names:
        if name not in table.column_names:
            raise UserError(
                "missing-column",
                f"{where}: the cohort table has no column {name}. Create it with `ehr-bert cohort`.",
            )
    tasks = {name: _task(table[name], name, where) for name in table.column_names if name not in COHORT.names}
    table = table.select(_READ.names).cast(_READ)
    return Cohort(
        patient_ids=table["patient_id"].to_numpy(),
        index_date=table["index_date"].to_numpy().astype("datetime64[D]"),
        split=table["split"].to_numpy(),
        sex=table["sex"].to_numpy(),
        age=pc.cast(table["age"], pa.float64()).to_numpy(),
        histories=_histories(table, where),
        tasks=tasks,
        facts=facts,
    )


def _task(column: pa.ChunkedArray, name: str, where: str) -> pa.Array:
    if kind_of_column(column.type):
        return column.combine_chunks()
    known = ", ".join(f"{type_} ({kind})" for kind, type_ in TASK_COLUMNS.items())
    raise UserError(
        "column-type", f"{where}: the task {name!r} has the type {column.type}. It must have one of {known}."
    )


def _histories(table: pa.Table, where: str) -> Histories:
    flat = {name: pc.list_flatten(table[name]) for name in _READ.names[5:]}
    code_offsets, visit_offsets = (_offsets(table[name]) for name in ("codes", "admit_date"))
    # A dictionary comes first, as the texts of one array must not exceed 2 GiB.
    codes = flat["codes"].dictionary_encode().combine_chunks()
    order = np.argsort(codes.dictionary.to_numpy(zero_copy_only=False), kind="stable")
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    histories = Histories(
        vocabulary=codes.dictionary.to_numpy(zero_copy_only=False)[order],
        codes=rank[codes.indices.to_numpy()],
        visit_ids=flat["visit_ids"].to_numpy(),
        code_offsets=code_offsets,
        admit_date=flat["admit_date"].to_numpy().astype("datetime64[D]"),
        los_days=flat["los_days"].to_numpy(),
        visit_offsets=visit_offsets,
    )
    if not (
        np.array_equal(code_offsets, _offsets(table["visit_ids"]))
        and np.array_equal(visit_offsets, _offsets(table["los_days"]))
    ):
        raise UserError(
            "list-lengths-differ",
            f"{where}: the lists of a history differ in length. Create the table with `ehr-bert cohort`.",
        )
    return histories


def _offsets(lists: pa.ChunkedArray) -> np.ndarray:
    """Return the start of each list in the flat values, and the end: int64 `[N + 1]`."""
    return offsets_of(pc.list_value_length(lists).to_numpy())


def _positions_of(offsets: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the flat positions of some rows' values, and the offsets of these rows."""
    lengths = np.diff(offsets)[rows]
    return spans(offsets[rows], lengths), offsets_of(lengths)
