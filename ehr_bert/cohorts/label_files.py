"""Labels from files: MEDS label files, and tables of patients, index dates and labels."""

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
"""The column of a table of simulated labels with the true risk, which is not a task."""

_KEYS = ("patient_id", "index_date")
_MEDS_KEYS = ("subject_id", "prediction_time")
_MEDS_VALUES = ("boolean_value", "integer_value", "float_value", "categorical_value")


def read_labels(path: Path) -> pa.Table:
    """Read a label table.

    Args:
        path: A Parquet file, a folder of them, or a CSV or TSV file by its suffix, which may end with `.gz`.
            It has `patient_id`, `index_date` and one column per task; or MEDS' `subject_id`,
            `prediction_time` and values of one type, which become the task `label`.

    Returns:
        Distinct `patient_id` (string) and `index_date` (date32); one column per task, of a type
        that `kind_of_column` knows; and `RISK`, if the table has it.

    Raises:
        UserError: The table does not exist (key `missing-file`) or cannot be read (`unreadable-file`), a
            column is missing (`missing-column`, `missing-labels`), or the columns or values do not fit.
    """
    raw = _read(path)
    names = [name.lower() for name in raw.column_names]
    repeated_names = sorted({name for name in names if names.count(name) > 1})
    if repeated_names:
        raise UserError(
            "duplicate-column",
            f"{path} has two columns named {', '.join(repeated_names)}, apart from case. Rename one.",
        )
    table = _from_meds(raw, path)
    missing = [name for name in _KEYS if name not in table.column_names]
    if missing:
        raise UserError(
            "missing-column",
            f"{path} has no column {', '.join(missing)}. A label table needs {', '.join(_KEYS)} and one "
            f"column per task, or {', '.join(_MEDS_KEYS)} and one of {', '.join(_MEDS_VALUES)}.",
        )
    columns = {"patient_id": _cast(table, "patient_id", pa.string(), path), "index_date": _days(table, path)}
    for name in table.column_names:
        if name == RISK:
            columns[name] = _cast(table, name, pa.float64(), path)
        elif name not in _KEYS:
            columns[name] = task_column(table[name], name, path)
    if not set(columns) - {*_KEYS, RISK}:
        raise UserError("missing-labels", f"{path} has no labels. Add one column per task.")
    labels = pa.table(columns)
    if labels["patient_id"].null_count or labels["index_date"].null_count:
        raise UserError(
            "missing-value",
            f"{path} has rows without patient_id or index_date. Fill in the values or remove the rows.",
        )
    repeated = len(labels) - len(labels.group_by(list(_KEYS)).aggregate([]))
    if repeated:
        raise UserError(
            "duplicate-rows",
            f"{path} has {repeated:,} rows that repeat a patient_id and index_date. Keep one row of each.",
        )
    return labels


def _read(path: Path) -> pa.Table:
    if not path.exists():
        raise UserError("missing-file", f"{path} does not exist. Check the path of the label table.")
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
        reason = str(error).splitlines()[0]
        raise UserError(
            "unreadable-file",
            f"{path} cannot be read: {reason}. Check that it is a CSV, TSV or Parquet table.",
        ) from error


def _from_meds(table: pa.Table, path: Path) -> pa.Table:
    """Return a MEDS label table with the column names of this package, and any other table unchanged."""
    if not set(_MEDS_KEYS) <= set(table.column_names):
        return table
    values = [
        name for name in _MEDS_VALUES if name in table.column_names and table[name].null_count < len(table)
    ]
    if len(values) != 1:
        raise UserError(
            "several-meds-values",
            f"{path} has values in {', '.join(values) or 'none'} of {', '.join(_MEDS_VALUES)}. Keep one task "
            "with one type of value per file.",
        )
    label = table[values[0]]
    if values[0] == "categorical_value":
        label = _one_element_lists(label.cast(pa.string()).combine_chunks())
    return pa.table(
        dict(zip((*_KEYS, LABEL), (table["subject_id"], table["prediction_time"], label), strict=True))
    )


def _one_element_lists(values: pa.Array) -> pa.Array:
    """Return each value as a list of one element, and null as null."""
    known = pc.is_valid(values).cast(pa.int32())
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(known).cast(pa.int32())])
    return pa.ListArray.from_arrays(offsets, values.drop_null(), mask=pc.is_null(values))


def _cast(table: pa.Table, name: str, type_: pa.DataType, path: Path) -> pa.ChunkedArray:
    try:
        return pc.cast(table[name], type_)
    except pa.ArrowException as error:
        raise UserError(
            "column-type",
            f"{path}: the column {name} has the type {table[name].type} instead of {type_}. Convert it.",
        ) from error


def _days(table: pa.Table, path: Path) -> pa.ChunkedArray:
    days = table["index_date"]
    try:
        return pc.cast(days, pa.timestamp("us") if pa.types.is_string(days.type) else days.type).cast(
            pa.date32(), safe=False
        )
    except pa.ArrowException as error:
        raise UserError(
            "invalid-date", f"{path}: index_date contains values that are not dates. Write YYYY-MM-DD."
        ) from error


def task_column(column: pa.ChunkedArray, name: str, path: Path) -> pa.ChunkedArray:
    """Return a column with the type of its task.

    Values of 0 and 1 are binary, other numbers a regression; lists keep their type. NaN is a missing label,
    like null.

    Args:
        column: The labels.
        name: Name of the task.
        path: File of the labels, for messages.

    Raises:
        UserError: The name is that of another column (key `reserved-name`), the type does not fit
            (`column-type`), or a number is infinite (`not-finite`).
    """
    if not is_task_name(name):
        raise UserError("reserved-name", f"{path}: a task cannot have the name {name!r}. Rename the column.")
    of_type = column.type
    if pa.types.is_boolean(of_type):
        return column.cast(pa.int32())
    if pa.types.is_integer(of_type) or pa.types.is_floating(of_type):
        numbers = column.cast(pa.float64(), safe=False)
        numbers = pc.if_else(pc.is_nan(numbers), None, numbers)
        if pc.any(pc.is_inf(numbers)).as_py():
            raise UserError(
                "not-finite", f"{path}: the column {name} has infinite values. Remove these rows."
            )
        is_binary = pc.all(pc.is_in(numbers.drop_null(), pa.array([0.0, 1.0]))).as_py()
        return numbers.cast(pa.int32()) if is_binary else numbers
    if kind_of_column(of_type):
        return column
    raise UserError(
        "column-type",
        f"{path}: the column {name} has the type {of_type}. Labels must be numbers, or lists in Parquet.",
    )
