"""Replacement of codes in a diagnosis table, by a join with the small table of its distinct codes."""

from collections.abc import Mapping
from dataclasses import dataclass

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from ehr_bert.codes import RollUp, roll_up_targets
from ehr_bert.engines import Engine


@dataclass(frozen=True)
class RollUpTally:
    """Counts of the codes that a roll-up could not map and did not change.

    Attributes:
        to: Target of the roll-up.
        unmapped_codes: Number of distinct codes.
        unmapped_rows: Number of rows with these codes.
    """

    to: RollUp
    unmapped_codes: int
    unmapped_rows: int


def code_rows(engine: Engine, diagnoses: ir.Table) -> dict[str, int]:
    """Return the number of rows of each distinct code of a diagnosis table."""
    counts = engine.collect(diagnoses.group_by("code").aggregate(rows=diagnoses.count()))
    return dict(zip(counts["code"].to_pylist(), counts["rows"].to_pylist(), strict=True))


def recode(engine: Engine, diagnoses: ir.Table, targets: Mapping[str, str]) -> ir.Table:
    """Replace the codes of a table by their targets. Codes without a target do not change."""
    changed = sorted((code, target) for code, target in targets.items() if code != target)
    if not changed:
        return diagnoses
    names, replacements = zip(*changed, strict=True)
    lookup = engine.load(pa.table({"replaced": pa.array(names), "replacement": pa.array(replacements)}))
    joined = diagnoses.left_join(lookup, diagnoses.code == lookup.replaced)
    return joined.mutate(code=ibis.coalesce(joined.replacement, joined.code)).select(*diagnoses.columns)


def roll_up_rows(engine: Engine, diagnoses: ir.Table, to: RollUp) -> tuple[ir.Table, RollUpTally]:
    """Roll up the codes of a diagnosis table."""
    if to == RollUp.NONE:
        return diagnoses, RollUpTally(to, 0, 0)
    rows = code_rows(engine, diagnoses)
    targets = roll_up_targets(rows, to)
    unmapped = [count for code, count in rows.items() if code not in targets]
    return recode(engine, diagnoses, targets), RollUpTally(to, len(unmapped), sum(unmapped))
