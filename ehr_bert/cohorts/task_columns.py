"""Columns of a cohort table with the labels of a task: the task types and the column type of each."""

from typing import Any

import pyarrow as pa

from ehr_bert.registry import Guard, Registry
from ehr_bert.schemas import TASK_COLUMNS


def _adopted(name: str, loaded: Any, guard: Guard) -> Any:
    from importlib import import_module

    # A cohort table does not depend on the code that trains on it, unless an extension reads its columns.
    return import_module("ehr_bert.prediction.multitask.task_type").adopted(name, loaded, guard)


TASK_TYPES: Registry[Any] = Registry(
    "task type",
    "ehr_bert.task_types",
    {
        "binary": "ehr_bert.prediction.multitask.binary:BINARY",
        "regression": "ehr_bert.prediction.multitask.regression:REGRESSION",
        "multilabel": "ehr_bert.prediction.multitask.multilabel:MULTILABEL",
        "visits": "ehr_bert.prediction.multitask.visits:VISITS",
    },
    _adopted,
)
"""The task types by name, each a `prediction.multitask.task_type.TaskType`.

The registry is here because the columns of a cohort table have the types that it lists. To add a type, write
a file with a `TaskType` and add its line.
"""


def kind_of_column(column_type: pa.DataType) -> str | None:
    """Return the name of the first task type that reads columns of a type, None if there is none.

    Example:
        >>> str(kind_of_column(pa.float64()))
        'regression'
    """
    for kind, known_type in TASK_COLUMNS.items():  # needs no import of a task type, and so of PyTorch
        if column_type == known_type:
            return kind
    others = TASK_TYPES.usable(name for name in TASK_TYPES if name not in TASK_COLUMNS)
    for name, task_type in others.items():
        if column_type == task_type.column_type:
            return name
    return None
