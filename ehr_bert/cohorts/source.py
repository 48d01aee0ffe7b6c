"""The diagnosis table of a cohort, read once."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ibis.expr.types as ir
import pyarrow as pa

from ehr_bert.codes import RollUp, roll_up_targets
from ehr_bert.engines import Engine
from ehr_bert.sequences.building import UsableRows, usable_rows
from ehr_bert.sequences.recoding import code_rows, recode
from ehr_bert.sources import CheckedEvents


@dataclass(frozen=True)
class Source:
    """The diagnosis table of a cohort.

    Attributes:
        engine: Engine that stores the table.
        path: Path of the table, for messages.
        events: The table, with patients and splits if the source has them.
        usable: Its usable rows.
        codes: Its distinct codes.
        targets: The code that each code rolls up to. Empty without roll-up.
    """

    engine: Engine
    path: Path
    events: CheckedEvents
    usable: UsableRows
    codes: tuple[str, ...]
    targets: dict[str, str]

    @classmethod
    def read(cls, engine: Engine, path: Path, events: CheckedEvents, roll_up: RollUp) -> "Source":
        """Read the table.

        Raises:
            UserError: The table has no usable row (key `no-usable-rows`).
        """
        usable = usable_rows(engine, events)
        codes = tuple(sorted(code_rows(engine, usable.rows)))
        targets = {} if roll_up == RollUp.NONE else roll_up_targets(codes, roll_up)
        return cls(engine, path, events, usable, codes, targets)

    def rows_of(self, codes: Sequence[str], rows: ir.Table | None = None) -> ir.Table:
        """Return the rows with one of `codes`, from the table or from `rows`, which needs a column `code`."""
        lookup = self.engine.load(pa.table({"code": pa.array(codes, pa.string())}))
        return (self.usable.rows if rows is None else rows).semi_join(lookup, "code")

    def roll_up(self, rows: ir.Table) -> ir.Table:
        """Return rows of the table with their codes rolled up."""
        return recode(self.engine, rows, self.targets)
