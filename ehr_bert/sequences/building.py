"""The way from a checked diagnosis table to histories, kept on an engine, and on to sequences."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from ehr_bert.codes import RollUp
from ehr_bert.engines import Engine
from ehr_bert.errors import UserError
from ehr_bert.schemas import DIAGNOSES, ContextKind, SpecialToken, Split
from ehr_bert.sequences.context import Context
from ehr_bert.sequences.eligibility import (
    Eligibility,
    EligibleRows,
    FlowStep,
    RareCodes,
    eligible_rows,
    rare_codes,
)
from ehr_bert.sequences.histories import PlaceBits, code_ranks, histories, ordering_ranks
from ehr_bert.sequences.recoding import RollUpTally, recoded, rolled_up_rows
from ehr_bert.sequences.tokens import code_counts, with_token_ids
from ehr_bert.sources import Diagnoses
from ehr_bert.splits import sample_of, with_split
from ehr_bert.vocabulary import CodeCount, Vocabulary

_REJECTED_ROWS = 100_000
"""Rejected rows in a batch."""


@dataclass(frozen=True)
class SequenceOptions:
    """What may be changed about sequences; nothing is by default.

    Attributes:
        roll_up: What codes are rolled up to, before anything else.
        eligibility: Which visits, patients and codes are taken.
        context: Which kinds of tokens stand before the codes of each visit.
    """

    roll_up: RollUp = RollUp.NONE
    eligibility: Eligibility = field(default_factory=Eligibility)
    context: frozenset[ContextKind] = frozenset()


@dataclass(frozen=True)
class RowTally:
    """What became of the rows of a diagnosis table.

    Attributes:
        usable: Rows that can be used.
        rejected: By reason, how many can't.
        unreadable: Ordering values that were taken as missing.
        roll_up: What a roll-up kept as it was.
        eligible: Which usable rows are left by the rules on visits and patients.
        sampled: Eligible rows of the patients that were taken.
        rare: What became of codes of too few patients; null without that rule.
    """

    usable: int
    rejected: dict[str, int]
    unreadable: int
    roll_up: RollUpTally
    eligible: EligibleRows
    sampled: int
    rare: RareCodes | None


@dataclass(frozen=True)
class UsableRows:
    """A diagnosis table, computed once.

    Attributes:
        rows: `DIAGNOSES`: the rows that can be used.
        kept: All rows, which the engine keeps until they are dropped.
        count: How many can be used.
        unreadable: How many of their ordering values were taken as missing.
        rejected: By reason, how many can't be used.
    """

    rows: ir.Table
    kept: ir.Table
    count: int
    unreadable: int
    rejected: dict[str, int]


@dataclass(frozen=True)
class PatientHistories:
    """The histories of all patients, computed once.

    Attributes:
        engine: Where they are.
        diagnoses: The table they were made of.
        parts: Tables as `histories` makes them, in ascending ranges of patients.
        codes: The codes, then the context tokens, by rank.
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

    @cached_property
    def integer_ids(self) -> bool:
        """Whether the ids of all patients are 64-bit integers as Python writes them."""
        patient_id = self.table.patient_id
        is_integer = (patient_id.try_cast("int64").cast("string") == patient_id).fill_null(False)
        return self.engine.collect(self.table.aggregate(all=is_integer.all()))["all"][0].as_py()

    def code_counts(self, *splits: Split) -> list[CodeCount]:
        """How often each code is seen in `splits` together."""
        among = pa.array([split.value for split in splits])
        chosen = self._counts.filter(pc.is_in(self._counts["split"], among))
        summed = chosen.group_by("code_rank").aggregate([("patients", "sum"), ("occurrences", "sum")])
        return [
            CodeCount(self.codes[row["code_rank"]], row["patients_sum"], row["occurrences_sum"])
            for row in summed.to_pylist()
        ]

    def vocabulary(self, given: Vocabulary | None, *splits: Split) -> Vocabulary:
        """Numbers the codes of `splits`, but for those that are too rare, after the tokens of `given`."""
        unknown = self.tally.rare.unknown if self.tally.rare else frozenset()
        counts = (count for count in self.code_counts(*splits) if count.code not in unknown)
        return Vocabulary.from_counts(counts, given)

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
    engine: Engine,
    path: Path,
    diagnoses: Diagnoses,
    seed: int,
    sample_size: int = 0,
    options: SequenceOptions | None = None,
    given: Vocabulary | None = None,
) -> PatientHistories:
    """Computes the histories of a diagnosis table.

    Args:
        engine: Where.
        path: Where the table came from, for messages.
        diagnoses: The table.
        seed: Decides the sample, and the splits that the source doesn't give.
        sample_size: How many patients to take, 0 for all.
        options: What to change about sequences, if anything.
        given: A vocabulary whose codes stay, however rare.

    Raises:
        UserError: no row of the table can be used, nobody is eligible, or the context tokens lack their
            source.
    """
    options = options or SequenceOptions()
    if options.context - {ContextKind.GAP} and diagnoses.patients is None:
        raise UserError(
            f"{path} tells nothing of patients, and tokens of sex and age need their table: make the folder "
            "with `ehr-bert extract`"
        )
    read = usable_rows(engine, path, diagnoses)
    computed = [read.kept]
    coded, roll_up = rolled_up_rows(engine, read.rows, options.roll_up)
    eligible = eligible_rows(engine, coded, options.eligibility)
    if eligible.flow:
        computed.append(eligible.rows)
        _check_somebody_is_left(path, eligible.flow)
    sampled = eligible.rows
    if sample_size:
        sampled = engine.materialise(sampled.semi_join(sample_of(sampled, sample_size, seed), "patient_id"))
        computed.append(sampled)
    rare = None
    if options.eligibility.min_patients:
        split = with_split(sampled, seed, diagnoses.splits)
        training = split.filter(split.split == Split.TRAIN.value)
        kept = given.tokens if given else ()
        rare = rare_codes(engine, sampled, training, options.eligibility.min_patients, kept)
        sampled = recoded(engine, sampled, rare.targets)
    parts, codes = ordered_parts(engine, sampled, seed, options.context, diagnoses.patients, diagnoses.splits)
    tally = RowTally(
        usable=read.count,
        rejected=read.rejected,
        unreadable=read.unreadable,
        roll_up=roll_up,
        eligible=eligible,
        sampled=_row_count(engine, sampled),
        rare=rare,
    )
    for table in computed:
        engine.drop(table)
    return PatientHistories(engine, diagnoses, parts, codes, tally)


def usable_rows(engine: Engine, path: Path, diagnoses: Diagnoses) -> UsableRows:
    """Computes a diagnosis table once.

    Args:
        engine: Where.
        path: Where the table came from, for messages.
        diagnoses: The table.

    Raises:
        UserError: no row of the table can be used.
    """
    with tqdm(desc="reading diagnoses", total=1, unit="table") as progress:
        kept = engine.materialise(diagnoses.rows)
        progress.update()
    count, unreadable, rejected = _faults(engine, kept)
    if not count:
        raise UserError(_why_nothing_is_usable(engine, path, diagnoses))
    rows = kept.filter(kept.reason.isnull()).select(*DIAGNOSES.names)
    return UsableRows(rows, kept, count, unreadable, rejected)


def ordered_parts(
    engine: Engine,
    rows: ir.Table,
    seed: int,
    kinds: frozenset[ContextKind] = frozenset(),
    patients: ir.Table | None = None,
    splits: ir.Table | None = None,
) -> tuple[tuple[ir.Table, ...], tuple[str, ...]]:
    """Computes histories, part by part.

    Args:
        engine: Where.
        rows: Usable rows of a diagnosis table.
        seed: Decides the splits that aren't given.
        kinds: Of context tokens.
        patients: `PATIENTS`, for tokens of sex and age.
        splits: `SPLITS` that the source gives, if any.

    Returns:
        Tables as `histories` makes them, in ascending ranges of patients; and the codes, then the context
        tokens, by rank.
    """
    codes = engine.materialise(code_ranks(rows))
    names = engine.collect(codes.order_by("code_rank"))["code"].to_pylist()
    context = Context(kinds, patients, len(names)) if kinds else None
    names += context.tokens if context else ()
    orderings = engine.materialise(ordering_ranks(rows))
    bits = PlaceBits.for_ranks(len(names), _row_count(engine, orderings))
    parts = tuple(
        engine.materialise(histories(part, codes, orderings, bits, seed, context, splits))
        for part in tqdm(engine.parts(rows, "patient_id"), desc="ordering visits", unit="part")
    )
    return parts, tuple(names)


def _faults(engine: Engine, rows: ir.Table) -> tuple[int, int, dict[str, int]]:
    """How many rows can be used; how many of their ordering values can't; and the other rows by reason."""
    groups = engine.collect(
        rows.group_by("reason").aggregate(rows=rows.count(), unreadable=rows.unreadable.sum())
    ).to_pylist()
    (usable,) = [group for group in groups if group["reason"] is None] or [{"rows": 0, "unreadable": 0}]
    rejected = {group["reason"]: group["rows"] for group in groups if group["reason"] is not None}
    return usable["rows"], usable["unreadable"], dict(sorted(rejected.items()))


def _row_count(engine: Engine, table: ir.Table) -> int:
    return engine.collect(table.aggregate(rows=table.count()))["rows"][0].as_py()


def _check_somebody_is_left(path: Path, flow: tuple[FlowStep, ...]) -> None:
    if flow[-1].patients == 0:
        left = ", ".join(f"{step.rule} {step.patients:,}" for step in flow)
        raise UserError(f"{path}: the rules leave no patient ({left}): loosen them")


def _why_nothing_is_usable(engine: Engine, path: Path, diagnoses: Diagnoses) -> str:
    first = engine.collect(diagnoses.rejected.limit(1)).to_pylist()
    if not first:
        return f"{path} holds no diagnosis: it has a header and nothing below it"
    where = f", line {first[0]['line']}" if first[0]["line"] else ""
    return f"{path}{where}: {first[0]['reason']}, and no other row can be used either"
