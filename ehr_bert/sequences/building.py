"""Conversion of a checked diagnosis table to histories, which the engine stores, and then to sequences."""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.compute as pc

from ehr_bert.codes import RollUp
from ehr_bert.engines import Engine
from ehr_bert.errors import UserError
from ehr_bert.logs import progress_bar
from ehr_bert.schemas import DIAGNOSES, ContextKind, EventKind, SpecialToken, Split
from ehr_bert.sequences.context import Context
from ehr_bert.sequences.eligibility import (
    Eligibility,
    EligibleRows,
    FlowStep,
    RareCodes,
    eligible_rows,
    rare_codes,
)
from ehr_bert.sequences.histories import (
    SortKeyBits,
    code_ranks,
    histories,
    ordering_ranks,
    with_observation,
)
from ehr_bert.sequences.recoding import RollUpTally, recode, roll_up_rows
from ehr_bert.sequences.tokens import code_counts, with_token_ids
from ehr_bert.sources import CheckedEvents
from ehr_bert.sources.checks import unreadable_values
from ehr_bert.splits import sample_of, with_split
from ehr_bert.vocabulary import CodeCount, Vocabulary

logger = logging.getLogger(__name__)

_REJECTED_ROWS = 100_000
"""Number of rejected rows per batch."""


@dataclass(frozen=True)
class SequenceOptions:
    """Options of sequences. All are off by default.

    Attributes:
        roll_up: Target of the roll-up of codes, which is applied first.
        eligibility: Rules on visits, patients and codes.
        context: Kinds of context tokens that precede the codes of each visit.
    """

    roll_up: RollUp = RollUp.NONE
    eligibility: Eligibility = field(default_factory=Eligibility)
    context: frozenset[ContextKind] = frozenset()


@dataclass(frozen=True)
class RowTally:
    """Counts of the rows of a diagnosis table by how they were used.

    Attributes:
        usable: Number of usable diagnoses.
        other_kinds: Number of usable rows of other kinds, which sequences do not contain.
        rejected: Number of rejected rows by reason.
        unreadable: Number of unreadable values of the usable diagnoses, which are treated as missing, by
            column.
        roll_up: Counts of the codes that a roll-up could not map.
        eligible: Usable rows that satisfy the rules on visits and patients.
        sampled: Number of eligible rows of the sampled patients.
        rare: Replacements of codes with too few patients, or None without such a rule.
    """

    usable: int
    other_kinds: int
    rejected: dict[str, int]
    unreadable: dict[str, int]
    roll_up: RollUpTally
    eligible: EligibleRows
    sampled: int
    rare: RareCodes | None


@dataclass(frozen=True)
class UsableRows:
    """The usable diagnoses of a materialised event table.

    Attributes:
        rows: The usable diagnoses, as `DIAGNOSES`.
        all_rows: All rows, which the engine stores until they are dropped.
        count: Number of usable diagnoses.
        other_kinds: Number of usable rows of other kinds.
        unreadable: Number of unreadable values of the usable diagnoses, by column.
        rejected: Number of rejected rows by reason.
    """

    rows: ir.Table
    all_rows: ir.Table
    count: int
    other_kinds: int
    unreadable: dict[str, int]
    rejected: dict[str, int]

    @property
    def read(self) -> int:
        """Number of rows of the table."""
        return self.count + self.other_kinds + sum(self.rejected.values())


@dataclass(frozen=True)
class PatientHistories:
    """The materialised histories of all patients.

    Attributes:
        engine: Engine that stores them.
        events: The event table.
        parts: Tables as `ordered_parts` returns them.
        codes: The codes and then the context tokens, by rank.
        tally: Counts of the rows of the diagnosis table.
    """

    engine: Engine
    events: CheckedEvents
    parts: tuple[ir.Table, ...]
    codes: tuple[str, ...]
    tally: RowTally

    @cached_property
    def table(self) -> ir.Table:
        """All parts as one table."""
        return ibis.union(*self.parts) if len(self.parts) > 1 else self.parts[0]

    @cached_property
    def _counts(self) -> pa.Table:
        return self.engine.collect(code_counts(self.table))

    @cached_property
    def integer_ids(self) -> bool:
        """Whether all patient ids are 64-bit integers without leading zeros or plus signs."""
        patient_id = self.table.patient_id
        is_integer = (patient_id.try_cast("int64").cast("string") == patient_id).fill_null(False)
        return self.engine.collect(self.table.aggregate(all=is_integer.all()))["all"][0].as_py()

    def code_counts(self, *splits: Split) -> list[CodeCount]:
        """Return how often each code occurs in `splits` together."""
        names = pa.array([split.value for split in splits])
        counts = self._counts.filter(pc.is_in(self._counts["split"], names))
        summed = counts.group_by("code_rank").aggregate([("patients", "sum"), ("occurrences", "sum")])
        return [
            CodeCount(self.codes[row["code_rank"]], row["patients_sum"], row["occurrences_sum"])
            for row in summed.to_pylist()
        ]

    def vocabulary(self, given: Vocabulary | None, *splits: Split) -> Vocabulary:
        """Number the codes of `splits` after the tokens of `given`, except codes that are too rare."""
        unknown = self.tally.rare.unknown if self.tally.rare else frozenset()
        counts = (count for count in self.code_counts(*splits) if count.code not in unknown)
        return Vocabulary.from_counts(counts, given)

    def sequences(self, vocabulary: Vocabulary) -> dict[Split, list[ir.Table]]:
        """Return tables of `SEQUENCES` by split, each sorted and all in ascending order of patient id.

        Codes that are not in the vocabulary become `[UNK]`.
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
        """Yield the rejected rows as `REJECTED`. The source is read again only if there are any."""
        if self.tally.rejected:
            yield from self.engine.batches([self.events.rejected], _REJECTED_ROWS)


def build_histories(
    engine: Engine,
    events: CheckedEvents,
    seed: int,
    sample_size: int = 0,
    options: SequenceOptions | None = None,
    given: Vocabulary | None = None,
) -> PatientHistories:
    """Compute the histories of the patients of a diagnosis table.

    Args:
        engine: Engine that computes and stores them.
        events: The event table.
        seed: Seed of the sample, and of the splits that the source does not give.
        sample_size: Number of patients to sample, 0 for all.
        options: Options of the sequences.
        given: A vocabulary whose codes are never treated as rare.

    Raises:
        UserError: No row of the table is usable (key `no-usable-rows`), no patient is eligible
            (`no-eligible-patients`), or there is no patient table for context tokens
            (`missing-patients-table`).
    """
    options = options or SequenceOptions()
    if options.context - {ContextKind.GAP} and events.patients is None:
        raise UserError(
            "missing-patients-table",
            f"{events.path} has no patient table, which the tokens sex and age require. Create the "
            "folder with `ehr-bert extract`.",
        )
    usable = usable_rows(engine, events)
    materialised = [usable.all_rows]
    coded, roll_up = roll_up_rows(engine, usable.rows, options.roll_up)
    eligible = eligible_rows(engine, coded, options.eligibility)
    if eligible.flow:
        materialised.append(eligible.rows)
        _check_eligible_patients(events.path, eligible.flow)
    sampled = eligible.rows
    if sample_size:
        sampled = engine.materialise(sampled.semi_join(sample_of(sampled, sample_size, seed), "patient_id"))
        materialised.append(sampled)
    rare = None
    if options.eligibility.min_patients:
        split = with_split(sampled, seed, events.splits)
        training = split.filter(split.split == Split.TRAIN.value)
        kept = given.tokens if given else ()
        rare = rare_codes(engine, sampled, training, options.eligibility.min_patients, kept)
        sampled = recode(engine, sampled, rare.targets)
    parts, codes = ordered_parts(engine, sampled, seed, options.context, events.patients, events.splits)
    tally = RowTally(
        usable=usable.count,
        other_kinds=usable.other_kinds,
        rejected=usable.rejected,
        unreadable=usable.unreadable,
        roll_up=roll_up,
        eligible=eligible,
        sampled=_row_count(engine, sampled),
        rare=rare,
    )
    for table in materialised:
        engine.drop(table)
    return PatientHistories(engine, events, parts, codes, tally)


def usable_rows(engine: Engine, events: CheckedEvents) -> UsableRows:
    """Materialise an event table and select its usable diagnoses.

    Args:
        engine: Engine that stores the table.
        events: The event table.

    Raises:
        UserError: The table has no usable diagnosis (key `no-usable-rows`).
    """
    with progress_bar(logger, desc="reading diagnoses", total=1, unit="table") as progress:
        all_rows = engine.materialise(events.rows.select(*DIAGNOSES.names, "kind", "reason", "unreadable"))
        progress.update()
    is_diagnosis = all_rows.reason.isnull() & (all_rows.kind == EventKind.DIAGNOSIS.value)
    rows = all_rows.filter(is_diagnosis).select(*DIAGNOSES.names)
    usable = _counted(engine, rows, all_rows)
    if not usable.count:
        raise UserError("no-usable-rows", _no_usable_row_message(engine, events, usable.other_kinds))
    return usable


def ordered_parts(
    engine: Engine,
    rows: ir.Table,
    seed: int,
    kinds: frozenset[ContextKind] = frozenset(),
    patients: ir.Table | None = None,
    splits: ir.Table | None = None,
) -> tuple[tuple[ir.Table, ...], tuple[str, ...]]:
    """Compute histories, one range of patients after the other.

    Args:
        engine: Engine that computes and stores them.
        rows: Usable rows of a diagnosis table.
        seed: Seed of the splits that the source does not give.
        kinds: Kinds of context tokens.
        patients: `PATIENTS`, for tokens of sex and age, and for the columns of `OBSERVATION`.
        splits: `SPLITS` of the source, if any.

    Returns:
        Tables as `histories` returns them and with the columns of `OBSERVATION`, each with one range of
        patient ids, in ascending order; and the codes and then the context tokens, by rank.
    """
    codes = engine.materialise(code_ranks(rows))
    names = engine.collect(codes.order_by("code_rank"))["code"].to_pylist()
    context = Context(kinds, patients, len(names)) if kinds else None
    names += context.tokens if context else ()
    orderings = engine.materialise(ordering_ranks(rows))
    bits = SortKeyBits.for_ranks(len(names), _row_count(engine, orderings))
    parts = tuple(
        engine.materialise(
            with_observation(histories(part, codes, orderings, bits, seed, context, splits), patients)
        )
        for part in progress_bar(
            logger, engine.parts(rows, "patient_id"), desc="ordering visits", unit="part"
        )
    )
    return parts, tuple(names)


def _counted(engine: Engine, rows: ir.Table, all_rows: ir.Table) -> UsableRows:
    """Count all rows of a table by reason to reject them, kind, and unreadable values."""
    groups = engine.collect(
        all_rows.group_by("reason", "kind", "unreadable").aggregate(rows=all_rows.count())
    ).to_pylist()
    usable = [group for group in groups if group["reason"] is None]
    diagnoses = [group for group in usable if group["kind"] == EventKind.DIAGNOSIS]
    rejected: Counter[str] = Counter()
    for group in groups:
        if group["reason"] is not None:
            rejected[group["reason"]] += group["rows"]
    count = sum(group["rows"] for group in diagnoses)
    return UsableRows(
        rows=rows,
        all_rows=all_rows,
        count=count,
        other_kinds=sum(group["rows"] for group in usable) - count,
        unreadable=unreadable_values((group["unreadable"], group["rows"]) for group in diagnoses),
        rejected=dict(sorted(rejected.items())),
    )


def _row_count(engine: Engine, table: ir.Table) -> int:
    return engine.collect(table.aggregate(rows=table.count()))["rows"][0].as_py()


def _check_eligible_patients(path: Path, flow: tuple[FlowStep, ...]) -> None:
    if flow[-1].patients == 0:
        counts = ", ".join(f"{step.rule}: {step.patients:,}" for step in flow)
        raise UserError(
            "no-eligible-patients",
            f"{path}: no patient satisfies the eligibility rules (patients after each rule: {counts}). "
            "Relax a rule.",
        )


def _no_usable_row_message(engine: Engine, events: CheckedEvents, other_kinds: int) -> str:
    if other_kinds:
        return (
            f"{events.path} has no usable diagnosis, but {other_kinds:,} rows of other kinds, which are not "
            "used. Add rows of the kind diagnosis."
        )
    first = engine.collect(events.rejected.limit(1)).to_pylist()
    if not first:
        return f"{events.path} contains only a header and no diagnoses. Check the path."
    where = f" (line {first[0]['line']})" if first[0]["line"] else ""
    return (
        f"{events.path} has no usable row. The first rejected row{where} has the reason: "
        f"{first[0]['reason']}. Correct the table; docs/formats.md describes it."
    )
