"""Simulated codes and ids, as stores write them."""

from collections.abc import Mapping
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ehr_bert.simulation.conditions import load_conditions

VOCABULARIES = {"ICD9": "ICD9CM", "ICD10": "ICD10CM"}
"""Names of the code systems in OMOP and MEDS, by prefix of a code."""


def code_numbers(codes: pa.ChunkedArray) -> np.ndarray:
    """Return the position of each code in `Conditions.codes`: int64 `[N]`."""
    return pc.index_in(codes, _all_codes()).to_numpy().astype(np.int64)


def code_spellings(prefixes: Mapping[str, str]) -> pa.Array:
    """Return all codes, in the order of `Conditions.codes`, with another prefix than that of their system.

    Args:
        prefixes: The prefix by system, `ICD9` or `ICD10`.
    """
    parts = [code.partition("_") for code in load_conditions().codes]
    return pa.array([prefixes[system] + code for system, _, code in parts])


def numbers(ids: pa.ChunkedArray) -> np.ndarray:
    """Return ids of patients as numbers: int64 `[N]`."""
    return ids.cast(pa.int64()).to_numpy()


def table_of(schema: pa.Schema, rows: int, columns: Mapping[str, object]) -> pa.Table:
    """Return a table. A value that is not an array is repeated, and a column without value is null.

    Args:
        schema: Schema of the table.
        rows: Number of rows.
        columns: Values by name.
    """
    return pa.table([_column(columns.get(field.name), field.type, rows) for field in schema], schema=schema)


def _column(value: object, kind: pa.DataType, rows: int) -> pa.Array | pa.ChunkedArray:
    if value is None or isinstance(value, str | int):
        return pa.repeat(pa.scalar(value, kind), rows)
    return value.cast(kind) if isinstance(value, pa.Array | pa.ChunkedArray) else pa.array(value, kind)


def title_of_code(code: str) -> str:
    """Return the title of a simulated code."""
    return _titles()[code]


@cache
def _all_codes() -> pa.Array:
    return pa.array(load_conditions().codes)


@cache
def _titles() -> dict[str, str]:
    conditions = load_conditions()
    return dict(zip(conditions.codes, conditions.titles, strict=True))
