"""Exact quantiles of whole numbers, by way of how often each occurs: small, and the same on every engine."""

import ibis.expr.types as ir
import numpy as np

from ehr_bert.engines.engine import Engine

_PERCENTS = {"min": 0, "5%": 5, "25%": 25, "median": 50, "75%": 75, "95%": 95, "max": 100}


def quantiles(engine: Engine, table: ir.Table, column: str) -> dict[str, int]:
    """The quantiles of an integer column without nulls, of a table with rows.

    Returns:
        By name, `min` to `max`, the smallest value that at least so many percent of the rows don't exceed.
    """
    counts = engine.collect(table.group_by(column).aggregate(rows=table.count()).order_by(column))
    values, ends = counts[column].to_numpy(), np.cumsum(counts["rows"].to_numpy())
    places = {name: -(-percent * int(ends[-1]) // 100) for name, percent in _PERCENTS.items()}
    return {name: int(values[np.searchsorted(ends, max(place, 1))]) for name, place in places.items()}
