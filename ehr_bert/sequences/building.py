"""The way from a checked diagnosis table to histories, kept on an engine, and on to sequences."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from ehr_bert.engines import Engine
from ehr_bert.errors import UserError
from ehr_bert.schemas import DIAGNOSES, SpecialToken, Split
from ehr_bert.sequences.histories import code_ranks, histories, ordering_ranks
from ehr_bert.sequences.tokens import code_counts, with_token_ids
from ehr_bert.sources import Diagnoses
from ehr_bert.splits import sample_of
from ehr_bert.vocabulary import CodeCount, Vocabulary

_REJECTED_ROWS = 100_000
"""Rejected rows in a batch."""


@dataclass(frozen=True)
class RowTally:
    """What became of the rows of a diagnosis table.

    Attributes:
        usable: Rows that can be used.
        rejected: By reason, how many can't.
        unreadable: Ordering values that were taken as missing.
        sampled: Usable rows of the patients that were taken.
        integer_ids: Whether the ids of all patients are 64-bit integers as Python writes them.
    """

    usable: int
    rejected: dict[str, int]
    unreadable: int
    sampled: int
    integer_ids: bool


@dataclass(frozen=True)
class PatientHistories:
    """The histories of all patients, computed once.

    Attributes:
        engine: Where they are.
        diagnoses: The table they were made of.
        parts: Tables as `histories` makes them, in ascending ranges of patients.
        codes: The codes by rank.
        tally: What became of its rows.
    """

    engine: Engine
    diagnoses: Diagnoses
    parts: tuple[ir.Table, ...]
    codes: tuple[str, ...]
    tally: RowTally

    @cached_property
    def table(self) -> ir.Table:
        """All parts as one."""
        return ibis.union(*self.parts) if len(self.parts) > 1 else self.parts[0]

    @cached_property
    def _counts(self) -> pa.Table:
        return self.engine.collect(code_counts(self.table))

    def code_counts(self, *splits: Split) -> list[CodeCount]:
        """How often each code is seen in `splits` together."""
        among = pa.array([split.value for split in splits])
        chosen = self._counts.filter(pc.is_in(self._counts["split"], among))
        summed = chosen.group_by("code_rank").aggregate([("patients", "sum"), ("occurrences", "sum")])
        return [
            CodeCount(self.codes[row["code_rank"]], row["patients_sum"], row["occurrences_sum"])
            for row in summed.to_pylist()
        ]

    def sequences(self, vocabulary: Vocabulary) -> dict[Split, list[ir.Table]]:
        """By split, tables of `SEQUENCES` by patient id, which follow each other in patient id too.

        A code that isn't in the vocabulary becomes `[UNK]`.
        """
        unknown = vocabulary.id_of(SpecialToken.UNK)
        ids = pa.array([[vocabulary.ids.get(code, unknown) for code in self.codes]], pa.list_(pa.int32()))
        lookup = self.engine.load(pa.table({"token_ids": ids}))
        return {
            split: [
                with_token_ids(part.filter(part.split == split.value), lookup).order_by("patient_id")
                for part in self.parts
            ]
            for split in Split
        }

    def rejected(self) -> Iterator[pa.RecordBatch]:
        """The rows of the table that can't be used, as `REJECTED`; it is read again only if there are any."""
        if self.tally.rejected:
            yield from self.engine.batches([self.diagnoses.rejected], _REJECTED_ROWS)


def build_histories(
    engine: Engine, path: Path, diagnoses: Diagnoses, seed: int, sample_size: int = 0
) -> PatientHistories:
    """Computes the histories of a diagnosis table.

    Args:
        engine: Where.
        path: Where the table came from, for messages.
        diagnoses: The table.
        seed: Decides splits and sample.
        sample_size: How many patients to take, 0 for all.

    Raises:
        UserError: no row of the table can be used.
    """
    with tqdm(desc="reading diagnoses", total=1, unit="table") as progress:
        rows = engine.materialise(diagnoses.rows)
        progress.update()
    usable = rows.filter(rows.reason.isnull()).select(*DIAGNOSES.names)
    sampled = usable
    if sample_size:
        sampled = engine.materialise(usable.semi_join(sample_of(usable, sample_size, seed), "patient_id"))
    tally = _tally(engine, rows, usable, sampled)
    if not tally.usable:
        raise UserError(_why_nothing_is_usable(engine, path, diagnoses))
    codes = engine.materialise(code_ranks(sampled))
    orderings = engine.materialise(ordering_ranks(sampled))
    parts = tuple(
        engine.materialise(histories(part, codes, orderings, seed))
        for part in tqdm(engine.parts(sampled, "patient_id"), desc="ordering visits", unit="part")
    )
    if sample_size:
        engine.drop(sampled)
    engine.drop(rows)
    by_rank = engine.collect(codes.order_by("code_rank"))["code"].to_pylist()
    return PatientHistories(engine, diagnoses, parts, tuple(by_rank), tally)


def _tally(engine: Engine, rows: ir.Table, usable: ir.Table, sampled: ir.Table) -> RowTally:
    groups = engine.collect(
        rows.group_by("reason").aggregate(rows=rows.count(), unreadable=rows.unreadable.sum())
    ).to_pylist()
    counts = {group["reason"]: group["rows"] for group in groups}
    integers = usable.aggregate(
        all=(usable.patient_id.try_cast("int64").cast("string") == usable.patient_id).fill_null(False).all()
    )
    return RowTally(
        usable=counts.pop(None, 0),
        rejected=dict(sorted(counts.items())),
        unreadable=sum(group["unreadable"] for group in groups if group["reason"] is None),
        sampled=engine.collect(sampled.aggregate(rows=sampled.count()))["rows"][0].as_py(),
        integer_ids=bool(engine.collect(integers)["all"][0].as_py()),
    )


def _why_nothing_is_usable(engine: Engine, path: Path, diagnoses: Diagnoses) -> str:
    first = engine.collect(diagnoses.rejected.limit(1)).to_pylist()
    if not first:
        return f"{path} holds no diagnosis: it has a header and nothing below it"
    where = f", line {first[0]['line']}" if first[0]["line"] else ""
    return f"{path}{where}: {first[0]['reason']}, and no other row can be used either"
