"""Labels from elsewhere: MEDS label files, and plain tables of patients, index dates and labels."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow import csv

from ehr_bert.cohorts.definition import is_task_name
from ehr_bert.cohorts.task_columns import kind_of_column
from ehr_bert.errors import UserError
from ehr_bert.schemas import LABEL

RISK = "risk"
"""The column of a plain table that holds the true risk, where labels are simulated: no task."""

_KEYS = ("patient_id", "index_date")
_MEDS_KEYS = ("subject_id", "prediction_time")
_MEDS_VALUES = ("boolean_value", "integer_value", "float_value", "categorical_value")


def read_labels(path: Path) -> pa.Table:
    """Reads a table of labels.

    Args:
        path: Parquet, a file or a folder of them; or CSV, or TSV, by the name's ending, `.gz` too. It has
            `patient_id`, `index_date` and a column a task; or MEDS' `subject_id`, `prediction_time` and the
            values of one kind, which become the task `label`.

    Returns:
        `patient_id` (string), `index_date` (date32), once each; a column a task, of a type that
        `kind_of_column` knows; and `RISK`, if the table has it.

    Raises:
        UserError: the table can't be read, lacks a column, or holds something else.
    """
    read = _read(path)
    names = [name.lower() for name in read.column_names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"{path}: two columns are called {', '.join(twice)}, in capitals or not: rename one")
    table = _meds(read, path)
    missing = [name for name in _KEYS if name not in table.column_names]
    if missing:
        raise UserError(
            f"{path} has no column {', '.join(missing)}: a table of labels has {', '.join(_KEYS)} and a "
            f"column a task, or {', '.join(_MEDS_KEYS)} and one of {', '.join(_MEDS_VALUES)}"
        )
    columns = {"patient_id": _cast(table, "patient_id", pa.string(), path), "index_date": _days(table, path)}
    for name in table.column_names:
        if name == RISK:
            columns[name] = _cast(table, name, pa.float64(), path)
        elif name not in _KEYS:
            columns[name] = task_column(table[name], name, path)
    if not set(columns) - {*_KEYS, RISK}:
        raise UserError(f"{path} has no labels: a table of labels has a column a task")
    labels = pa.table(columns)
    if labels["patient_id"].null_count or labels["index_date"].null_count:
        raise UserError(f"{path}: a row lacks its patient_id or index_date: fill it in, or leave the row out")
    repeated = len(labels) - len(labels.group_by(list(_KEYS)).aggregate([]))
    if repeated:
        raise UserError(f"{path}: {repeated:,} rows repeat a patient_id and index_date: leave one of each")
    return labels


def _read(path: Path) -> pa.Table:
    if not path.exists():
        raise UserError(f"{path} doesn't exist: name the table of labels")
    try:
        if path.is_dir() or path.suffix == ".parquet":
            return ds.dataset(path, format="parquet").to_table()
        separator = "," if path.name.removesuffix(".gz").endswith(".csv") else "\t"
        texts = dict.fromkeys((_KEYS[0], _MEDS_KEYS[0]), pa.string())
        return csv.read_csv(
            path,
            parse_options=csv.ParseOptions(delimiter=separator),
            convert_options=csv.ConvertOptions(column_types=texts),
        )
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{path} can't be read: {str(error).splitlines()[0]}") from error


def _meds(table: pa.Table, path: Path) -> pa.Table:
    """A MEDS label table under our names; any other as it is."""
    if not set(_MEDS_KEYS) <= set(table.column_names):
        return table
    values = [
        name for name in _MEDS_VALUES if name in table.column_names and table[name].null_count < len(table)
    ]
    if len(values) != 1:
        raise UserError(
            f"{path}: values stand in {', '.join(values) or 'none'} of {', '.join(_MEDS_VALUES)}: a file "
            "holds one task, of one kind"
        )
    label = table[values[0]]
    if values[0] == "categorical_value":
        label = _singletons(label.cast(pa.string()).combine_chunks())
    return pa.table(
        dict(zip((*_KEYS, LABEL), (table["subject_id"], table["prediction_time"], label), strict=True))
    )


def _singletons(values: pa.Array) -> pa.Array:
    """Each value as a list of its own, null for null."""
    known = pc.is_valid(values).cast(pa.int32())
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(known).cast(pa.int32())])
    return pa.ListArray.from_arrays(offsets, values.drop_null(), mask=pc.is_null(values))


def _cast(table: pa.Table, name: str, type_: pa.DataType, path: Path) -> pa.ChunkedArray:
    try:
        return pc.cast(table[name], type_)
    except pa.ArrowException as error:
        raise UserError(
            f"{path}: the column {name} is of {table[name].type}, and can't be read as {type_}"
        ) from error


def _days(table: pa.Table, path: Path) -> pa.ChunkedArray:
    days = table["index_date"]
    try:
        return pc.cast(days, pa.timestamp("us") if pa.types.is_string(days.type) else days.type).cast(
            pa.date32(), safe=False
        )
    except pa.ArrowException as error:
        raise UserError(f"{path}: index_date isn't a date: write YYYY-MM-DD") from error


def task_column(column: pa.ChunkedArray, name: str, path: Path) -> pa.ChunkedArray:
    """A column as the type of its task: 0 and 1 are binary, other numbers a regression; lists are kept.

    NaN is no label, as null is none.

    Args:
        column: The labels.
        name: Of the task.
        path: Where they came from, for messages.

    Raises:
        UserError: it is of another type or infinite, or called as other columns are.
    """
    if not is_task_name(name):
        raise UserError(f"{path}: a task can't be called {name!r}: rename the column")
    of_type = column.type
    if pa.types.is_boolean(of_type):
        return column.cast(pa.int32())
    if pa.types.is_integer(of_type) or pa.types.is_floating(of_type):
        numbers = column.cast(pa.float64(), safe=False)
        numbers = pc.if_else(pc.is_nan(numbers), None, numbers)
        if pc.any(pc.is_inf(numbers)).as_py():
            raise UserError(f"{path}: the column {name} holds an infinite number: leave such rows out")
        is_binary = pc.all(pc.is_in(numbers.drop_null(), pa.array([0.0, 1.0]))).as_py()
        return numbers.cast(pa.int32()) if is_binary else numbers
    if kind_of_column(of_type):
        return column
    raise UserError(f"{path}: the column {name} is of {of_type}, and labels are numbers, or lists in Parquet")
