"""A cohort in memory: flat arrays, cut into examples and visits by offsets."""

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
from ehr_bert.schemas import COHORT, TASK_COLUMNS, Split

COHORT_FOLDER = "cohort"
"""The folder of Parquet files inside what `ehr-bert cohort` writes."""


@dataclass(frozen=True)
class Histories:
    """The histories of `N` examples: `C` codes and `V` visits in all, `K` distinct codes.

    Attributes:
        vocabulary: The distinct codes, context tokens among them, in the order of the alphabet: `[K]`.
        codes: Places in `vocabulary`: int32 `[C]`.
        visit_ids: Counted from 1 in each example, non-decreasing: int32 `[C]`.
        code_offsets: Where each example's codes begin, and the end: int64 `[N + 1]`.
        admit_date: `datetime64[D]`, `[V]`; NaT where it isn't known.
        los_days: int32 `[V]`.
        visit_offsets: Where each example's visits begin, and the end: int64 `[N + 1]`.
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
        """Codes of each example: int64 `[N]`."""
        return np.diff(self.code_offsets)

    @cached_property
    def visits(self) -> np.ndarray:
        """Visits of each example: int64 `[N]`."""
        return np.diff(self.visit_offsets)

    @cached_property
    def example(self) -> np.ndarray:
        """The example of each code: int64 `[C]`."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def take(self, rows: np.ndarray) -> "Histories":
        """The histories of some examples, in the order of `rows`: int64 `[M]`."""
        codes, code_offsets = _taken(self.code_offsets, rows)
        visits, visit_offsets = _taken(self.visit_offsets, rows)
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
    """`N` examples.

    Attributes:
        patient_ids: Never to be shown or logged: object `[N]`.
        index_date: `datetime64[D]`, `[N]`; NaT where it isn't known.
        split: A `Split` each: object `[N]`.
        sex: Text, or None where it isn't known: object `[N]`.
        age: Completed years at the index date, NaN where it isn't known: float64 `[N]`.
        histories: Up to the index date.
        tasks: The tasks' columns by name, `[N]` each, of a type that `kind_of_column` knows.
        facts: What the folder's summary tells.
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
        """The labels of a binary task or a regression, NaN where they aren't known: float64 `[N]`."""
        return pc.cast(self.tasks[task], pa.float64()).to_numpy(zero_copy_only=False)

    def take(self, rows: np.ndarray) -> "Cohort":
        """Some examples, in the order of `rows`: int64 `[M]`, or bool `[N]`."""
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
        """The examples of one side."""
        return self.take(self.split == split.value)


def read_cohort(folder: Path) -> Cohort:
    """Reads what `ehr-bert cohort` wrote.

    Raises:
        UserError: the folder holds something else.
    """
    files = sorted((folder / COHORT_FOLDER).glob("*.parquet"))
    if not files:
        raise UserError(
            "not-a-cohort", f"{folder} is not a cohort folder. Create one with `ehr-bert cohort`."
        )
    try:
        table = pa.concat_tables([pq.read_table(file) for file in files])
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{folder / COHORT_FOLDER} can't be read: {error}") from error
    return cohort_of(table, read_json(folder / SUMMARY_FILE), str(folder))


def cohort_of(table: pa.Table, facts: dict[str, Any], where: str) -> Cohort:
    """A cohort of a table of `COHORT` and the tasks' columns.

    Args:
        table: `N` rows.
        facts: What is told of it.
        where: What the user calls it, for messages.

    Raises:
        UserError: columns are missing or of another type, or lists don't fit each other.
    """
    for field in COHORT:
        if field.name not in table.column_names:
            raise UserError(f"{where}: the cohort table lacks the column {field.name}")
    tasks = {name: _task(table[name], name, where) for name in table.column_names if name not in COHORT.names}
    table = table.select(COHORT.names).cast(COHORT)
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
    raise UserError(f"{where}: the task {name!r} is of type {column.type}, and must be of one of {known}")


def _histories(table: pa.Table, where: str) -> Histories:
    flat = {name: pc.list_flatten(table[name]) for name in COHORT.names[5:]}
    code_offsets, visit_offsets = (_offsets(table[name]) for name in ("codes", "admit_date"))
    # As places in a dictionary first: the texts of one array may not pass 2 GiB.
    codes = flat["codes"].dictionary_encode().combine_chunks()
    order = np.argsort(codes.dictionary.to_numpy(zero_copy_only=False), kind="stable")
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    histories = Histories(
        vocabulary=codes.dictionary.to_numpy(zero_copy_only=False)[order],
        codes=place[codes.indices.to_numpy()],
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
        raise UserError(f"{where}: a history's lists differ in length: is this a cohort table?")
    return histories


def _offsets(lists: pa.ChunkedArray) -> np.ndarray:
    """Where each list begins in the flat values, and the end: int64 `[N + 1]`."""
    return offsets_of(pc.list_value_length(lists).to_numpy())


def _taken(offsets: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The flat places of some rows' values, and the offsets that cut them: `[M + 1]`."""
    lengths = np.diff(offsets)[rows]
    return spans(offsets[rows], lengths), offsets_of(lengths)
