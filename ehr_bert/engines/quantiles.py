"""Exact quantiles of integers from the counts of their values, equal on every engine."""

import ibis.expr.types as ir
import numpy as np

from ehr_bert.engines.engine import Engine

_PERCENTS = {"min": 0, "5%": 5, "25%": 25, "median": 50, "75%": 75, "95%": 95, "max": 100}


def quantiles(engine: Engine, table: ir.Table, column: str) -> dict[str, int]:
    """Return quantiles of an integer column. The table must have rows, and the column no nulls.

    Returns:
        Quantiles by name, from `min` to `max`. A quantile at p percent is the smallest value that at least
        p percent of the rows do not exceed.
    """
    counts = engine.collect(table.group_by(column).aggregate(rows=table.count()).order_by(column))
    values, ends = counts[column].to_numpy(), np.cumsum(counts["rows"].to_numpy())
    ranks = {name: -(-percent * int(ends[-1]) // 100) for name, percent in _PERCENTS.items()}
    return {name: int(values[np.searchsorted(ends, max(rank, 1))]) for name, rank in ranks.items()}
