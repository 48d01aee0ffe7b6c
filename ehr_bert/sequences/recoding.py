"""Codes replaced by others all over a diagnosis table, by way of the small table of its distinct codes."""

from collections.abc import Mapping
from dataclasses import dataclass

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from ehr_bert.codes import RollUp, rolled_up
from ehr_bert.engines import Engine


@dataclass(frozen=True)
class RollUpTally:
    """What a roll-up couldn't map, and so kept as it was.

    Attributes:
        to: What codes were rolled up to.
        unmapped_codes: Distinct codes.
        unmapped_rows: Rows that have them.
    """

    to: RollUp
    unmapped_codes: int
    unmapped_rows: int


def code_rows(engine: Engine, diagnoses: ir.Table) -> dict[str, int]:
    """The distinct codes of a diagnosis table, and how many rows have each."""
    counts = engine.collect(diagnoses.group_by("code").aggregate(rows=diagnoses.count()))
    return dict(zip(counts["code"].to_pylist(), counts["rows"].to_pylist(), strict=True))


def recoded(engine: Engine, diagnoses: ir.Table, targets: Mapping[str, str]) -> ir.Table:
    """A table with a column `code` whose codes are replaced by their targets; others stay."""
    moved = sorted((code, target) for code, target in targets.items() if code != target)
    if not moved:
        return diagnoses
    names, replacements = zip(*moved, strict=True)
    lookup = engine.load(pa.table({"replaced": pa.array(names), "replacement": pa.array(replacements)}))
    joined = diagnoses.left_join(lookup, diagnoses.code == lookup.replaced)
    return joined.mutate(code=ibis.coalesce(joined.replacement, joined.code)).select(*diagnoses.columns)


def rolled_up_rows(engine: Engine, diagnoses: ir.Table, to: RollUp) -> tuple[ir.Table, RollUpTally]:
    """A diagnosis table with its codes rolled up."""
    if to == RollUp.NONE:
        return diagnoses, RollUpTally(to, 0, 0)
    rows = code_rows(engine, diagnoses)
    targets = rolled_up(rows, to)
    unmapped = [count for code, count in rows.items() if code not in targets]
    return recoded(engine, diagnoses, targets), RollUpTally(to, len(unmapped), sum(unmapped))
