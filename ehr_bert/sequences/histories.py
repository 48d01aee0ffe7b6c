"""The history of each patient: visits ordered by discharge, and the ordered, distinct codes of each visit.

Everything is an Ibis expression that gives the same result on every engine. Engines differ in ordered
aggregation, so lists are ordered by sorting integers, whose bits contain the values to sort by.
"""

from dataclasses import dataclass

import ibis
import ibis.expr.types as ir

from ehr_bert.errors import UserError
from ehr_bert.schemas import OBSERVATION
from ehr_bert.sequences.context import Context
from ehr_bert.sources.checks import ORDERING
from ehr_bert.splits import with_split

_DAY_BITS = 23
"""Bits of a date as an integer: year (14), month (4) and day (5). It sorts like the date."""


@dataclass(frozen=True)
class SortKeyBits:
    """Layout of the integer by which the codes of a patient are sorted.

    From the highest bits it contains the day of discharge, the rank of the ordering values (0 precedes them
    all) and the rank of the code.

    Attributes:
        ordering: Number of bits for the rank of the ordering values.
        code: Number of bits for the rank of the code.
    """

    ordering: int
    code: int

    @classmethod
    def for_ranks(cls, codes: int, orderings: int) -> "SortKeyBits":
        """Create a layout for a number of codes, including context tokens, and of ordering values.

        Raises:
            UserError: They do not fit into 63 bits (key `too-many-ordering-values`).
        """
        code = codes.bit_length()
        ordering = 63 - _DAY_BITS - code
        if orderings >= 1 << ordering:
            raise UserError(
                "too-many-ordering-values",
                f"{', '.join(ORDERING)} have {orderings:,} combinations of values; at most "
                f"{(1 << ordering) - 1:,} are supported. Empty the column that numbers the rows.",
            )
        return cls(ordering, code)

    def key_of(
        self, day: ir.IntegerValue, ordering: ir.IntegerValue, code: ir.IntegerValue
    ) -> ir.IntegerValue:
        """Return the sort key of a code."""
        return (((day << self.ordering) + ordering) << self.code) + code

    def day_of(self, key: ir.IntegerValue) -> ir.IntegerValue:
        """Return the day in a sort key."""
        return key >> (self.ordering + self.code)

    def code_of(self, key: ir.IntegerValue) -> ir.IntegerValue:
        """Return the rank of the code in a sort key."""
        return key % (1 << self.code)


def code_ranks(diagnoses: ir.Table) -> ir.Table:
    """Return the distinct codes of a diagnosis table in alphabetical order: `code`, `code_rank` from 0."""
    codes = diagnoses.select("code").distinct()
    return codes.mutate(code_rank=ibis.row_number().over(order_by=codes.code))


def ordering_ranks(diagnoses: ir.Table) -> ir.Table:
    """Return the distinct combinations of ordering values in order: `ordering`, `ordering_rank` from 1."""
    orderings = diagnoses.select(ordering=_ordering(diagnoses)).distinct()
    return orderings.mutate(ordering_rank=ibis.row_number().over(order_by=orderings.ordering) + 1)


def histories(
    diagnoses: ir.Table,
    codes: ir.Table,
    orderings: ir.Table,
    bits: SortKeyBits,
    seed: int,
    context: Context | None = None,
    splits: ir.Table | None = None,
) -> ir.Table:
    """Return one row per patient, in no particular order.

    Args:
        diagnoses: Usable rows of a diagnosis table.
        codes: `code_ranks` of these or more rows.
        orderings: `ordering_ranks` of these or more rows.
        bits: Layout of the sort keys for these ranks.
        seed: Seed of the splits.
        context: Context tokens that precede the codes of each visit, if any.
        splits: `SPLITS` of the source, if any.

    Returns:
        The columns of `SEQUENCES`, without those of `OBSERVATION` and with `code_ranks` instead of
        `token_ids`; and `split`, `distinct_ranks` (distinct values of `code_ranks`), `discharge_date` (of the
        last visit), `codes` (number of codes without context tokens) and `diagnoses` (number of rows of the
        patient).
    """
    patients = _patients(diagnoses, codes, orderings, bits)
    visits_of = patients.stays.map(
        lambda stay: ibis.struct(
            {
                "day": _discharge(stay),
                "discharge_date": _date(_discharge(stay)),
                "admit_date": _date(_admit(stay)),
            }
        )
    )
    patients = patients.mutate(
        visits=visits_of, days=patients.stays.map(_discharge), codes=patients.sort_keys.length()
    )
    if context:
        patients = _with_context(patients, bits, context)
    patients = with_split(patients, seed, splits)
    visits_of = patients.visits
    return patients.select(
        "patient_id",
        "codes",
        "diagnoses",
        "split",
        "distinct_ranks",
        code_ranks=patients.sort_keys.map(lambda key: bits.code_of(key).cast("int32")),
        visit_ids=patients.sort_keys.map(
            lambda key: (patients.days.index(bits.day_of(key)) + 1).cast("int32")
        ),
        admit_date=visits_of.map(lambda visit: visit.admit_date),
        los_days=visits_of.map(lambda visit: _days(visit.admit_date, visit.discharge_date)),
        days_to_next=visits_of.map(
            lambda visit, index: ibis.ifelse(
                index + 1 < visits_of.length(),
                _days(visit.discharge_date, visits_of[index + 1].admit_date),
                0,
            )
        ),
        discharge_date=visits_of[visits_of.length() - 1].discharge_date,
    )


def with_observation(histories: ir.Table, patients: ir.Table | None) -> ir.Table:
    """Add the columns of `OBSERVATION` to a table with one row per patient.

    Args:
        histories: The table.
        patients: `PATIENTS`. All columns are null without it, and those of a patient whom it does not list.
    """
    if patients is None:
        return histories.mutate(**{name: ibis.null(kind) for name, kind in ibis.schema(OBSERVATION).items()})
    known = patients.select("patient_id", *OBSERVATION.names)
    return histories.left_join(known, "patient_id").select(*histories.columns, *OBSERVATION.names)


def _ordering(diagnoses: ir.Table) -> ir.IntegerValue:
    """Return the ordering values as one 64-bit integer that sorts like them, with missing values last."""
    ordering = ibis.literal(0, "int64")
    for name, limit in ORDERING.items():
        base = 2 * limit + 2  # Values from -limit to limit + 1, where limit + 1 means missing.
        ordering = ordering * base + diagnoses[name].cast("int64").fill_null(limit + 1)
    return ordering


def _patients(diagnoses: ir.Table, codes: ir.Table, orderings: ir.Table, bits: SortKeyBits) -> ir.Table:
    """Return one row per patient: `sort_keys`, `distinct_ranks`, `stays` and `diagnoses`.

    There is one sort key per visit and distinct code, and one stay per visit. A stay is an integer of the day
    of discharge and, in its lowest bits, the day of admission.
    """
    ordered = diagnoses.mutate(ordering=_ordering(diagnoses))
    ranked = ordered.join(codes, "code").join(orderings, "ordering")
    day = _number(ranked.discharge_date)
    by_code = (((ranked.code_rank << _DAY_BITS) + day) << bits.ordering) + ranked.ordering_rank
    patients = ranked.group_by("patient_id").aggregate(
        by_code=by_code.collect().sort(),
        stays=((day << _DAY_BITS) + _number(ranked.admit_date)).collect().sort(),
        diagnoses=ranked.count(),
    )
    return patients.select(
        "patient_id",
        "diagnoses",
        sort_keys=_first_of_each(patients.by_code, bits.ordering)
        .map(
            lambda number: bits.key_of(
                (number >> bits.ordering) % (1 << _DAY_BITS),
                number % (1 << bits.ordering),
                number >> (bits.ordering + _DAY_BITS),
            )
        )
        .sort(),
        distinct_ranks=_first_of_each(patients.by_code, bits.ordering + _DAY_BITS).map(
            lambda number: (number >> (bits.ordering + _DAY_BITS)).cast("int32")
        ),
        stays=_first_of_each(patients.stays, _DAY_BITS),
    )


def _first_of_each(numbers: ir.ArrayValue, low_bits: int) -> ir.ArrayValue:
    """Return those of sorted integers whose high bits differ from those of the integer before."""
    return numbers.filter(
        lambda number, before: (before == 0) | ((numbers[before - 1] >> low_bits) < (number >> low_bits))
    )


def _with_context(patients: ir.Table, bits: SortKeyBits, context: Context) -> ir.Table:
    """Add the sort keys of context tokens, which precede the codes of their visit."""
    known = context.with_facts(patients)
    visits_of = known.visits
    # Ibis identifies the arguments of functions by name only, and `days_to_next` uses `index`.
    added = visits_of.map(
        lambda visit, position: context.ranks(known, visit, position, visits_of[position - 1]).map(
            lambda rank: bits.key_of(visit.day, 0, rank)
        )
    ).flatten()
    known = known.mutate(added=added)
    return known.mutate(
        sort_keys=known.sort_keys.concat(known.added).sort(),
        distinct_ranks=known.distinct_ranks.concat(
            known.added.map(lambda key: bits.code_of(key).cast("int32")).unique()
        ),
    )


def _number(day: ir.DateValue) -> ir.IntegerValue:
    """Return a date as an integer of `_DAY_BITS` bits."""
    return (day.year().cast("int64") << 9) + (day.month().cast("int64") << 5) + day.day()


def _date(number: ir.IntegerValue) -> ir.DateValue:
    """Return the date of an integer that `_number` returned."""
    return ibis.date(number >> 9, (number >> 5) % 16, number % 32)


def _discharge(stay: ir.IntegerValue) -> ir.IntegerValue:
    return stay >> _DAY_BITS


def _admit(stay: ir.IntegerValue) -> ir.IntegerValue:
    return stay % (1 << _DAY_BITS)


def _days(start: ir.DateValue, end: ir.DateValue) -> ir.IntegerValue:
    return end.delta(start, unit="day").cast("int32")
