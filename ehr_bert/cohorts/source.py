"""A diagnosis table, read once for a cohort."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ibis.expr.types as ir
import pyarrow as pa

from ehr_bert.codes import RollUp, rolled_up
from ehr_bert.engines import Engine
from ehr_bert.sequences.building import UsableRows, usable_rows
from ehr_bert.sequences.recoding import code_rows, recoded
from ehr_bert.sources import Diagnoses


@dataclass(frozen=True)
class Source:
    """A diagnosis table, read for a cohort.

    Attributes:
        engine: Where it is.
        where: What the user calls it, for messages.
        diagnoses: The table.
        read: Its rows.
        codes: Its distinct codes.
        targets: What rolls codes up, by code; empty without.
    """

    engine: Engine
    where: Path
    diagnoses: Diagnoses
    read: UsableRows
    codes: tuple[str, ...]
    targets: dict[str, str]

    @classmethod
    def of(cls, engine: Engine, where: Path, diagnoses: Diagnoses, roll_up: RollUp) -> "Source":
        """Reads the table.

        Raises:
            UserError: no row of it can be used.
        """
        read = usable_rows(engine, where, diagnoses)
        codes = tuple(sorted(code_rows(engine, read.rows)))
        targets = {} if roll_up == RollUp.NONE else rolled_up(codes, roll_up)
        return cls(engine, where, diagnoses, read, codes, targets)

    def rows_of(self, codes: Sequence[str], rows: ir.Table | None = None) -> ir.Table:
        """Rows of some codes: of the table, or of `rows`, which has a column `code`."""
        lookup = self.engine.load(pa.table({"code": pa.array(codes, pa.string())}))
        return (self.read.rows if rows is None else rows).semi_join(lookup, "code")

    def rolled_up(self, rows: ir.Table) -> ir.Table:
        """Rows of the table with their codes rolled up."""
        return recoded(self.engine, rows, self.targets)
