"""The diagnoses of each patient, put in order: visits by discharge, codes inside a visit, each code once.

All of it is Ibis expressions that hold on every engine. Since no engine's ordered aggregation is like
another's, order inside a list comes from sorting a list of integers, whose bits are what decides.
"""

from dataclasses import dataclass

import ibis
import ibis.expr.types as ir

from ehr_bert.errors import UserError
from ehr_bert.sequences.context import Context
from ehr_bert.sources.checks import ORDERING
from ehr_bert.splits import with_split

_DAY_BITS = 23
"""A date as a number is its year (14 bits), month (4) and day (5), which sorts as dates do."""


@dataclass(frozen=True)
class PlaceBits:
    """The bits of a place, the integer by which a patient's codes are ordered.

    From the highest on it holds the day of discharge, the rank of the ordering values (0 is before them
    all) and the rank of the code.
    """

    ordering: int
    code: int

    @classmethod
    def for_ranks(cls, codes: int, orderings: int) -> "PlaceBits":
        """Bits enough for so many codes, context tokens included, and combinations of ordering values.

        Raises:
            UserError: together they don't fit.
        """
        code = codes.bit_length()
        ordering = 63 - _DAY_BITS - code
        if orderings >= 1 << ordering:
            raise UserError(
                f"{', '.join(ORDERING)} take {orderings:,} combinations of values, where "
                f"{(1 << ordering) - 1:,} are the most: blank the column that numbers rows"
            )
        return cls(ordering, code)

    def place(
        self, day: ir.IntegerValue, ordering: ir.IntegerValue, code: ir.IntegerValue
    ) -> ir.IntegerValue:
        """A place."""
        return (((day << self.ordering) + ordering) << self.code) + code

    def day(self, place: ir.IntegerValue) -> ir.IntegerValue:
        """The day of a place."""
        return place >> (self.ordering + self.code)

    def code_of(self, place: ir.IntegerValue) -> ir.IntegerValue:
        """The rank of a place's code."""
        return place % (1 << self.code)


def code_ranks(diagnoses: ir.Table) -> ir.Table:
    """Every code of a diagnosis table with its place in the alphabet: `code`, `code_rank` from 0."""
    codes = diagnoses.select("code").distinct()
    return codes.mutate(code_rank=ibis.row_number().over(order_by=codes.code))


def ordering_ranks(diagnoses: ir.Table) -> ir.Table:
    """Every combination of ordering values with its place: `ordering`, `ordering_rank` from 1."""
    orderings = diagnoses.select(ordering=_ordering(diagnoses)).distinct()
    return orderings.mutate(ordering_rank=ibis.row_number().over(order_by=orderings.ordering) + 1)


def histories(
    diagnoses: ir.Table,
    codes: ir.Table,
    orderings: ir.Table,
    bits: PlaceBits,
    seed: int,
    context: Context | None = None,
    splits: ir.Table | None = None,
) -> ir.Table:
    """One row a patient, in no order.

    Args:
        diagnoses: The usable rows of a diagnosis table.
        codes: `code_ranks` of them, or of more.
        orderings: `ordering_ranks` of them, or of more.
        bits: For these ranks.
        seed: Decides the split.
        context: The tokens to put before the codes of each visit, if any.
        splits: `SPLITS` that the source gives, if any.

    Returns:
        The columns of `SEQUENCES`, with `code_ranks` in place of `token_ids`; and `split`; `distinct_ranks`,
        each of `code_ranks` once; `discharge_date`, of the last visit; `codes`, how many there are, without
        context tokens; `diagnoses`, the rows that the patient had.
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
        visits=visits_of, days=patients.stays.map(_discharge), codes=patients.places.length()
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
        code_ranks=patients.places.map(lambda place: bits.code_of(place).cast("int32")),
        visit_ids=patients.places.map(lambda place: (patients.days.index(bits.day(place)) + 1).cast("int32")),
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


def _ordering(diagnoses: ir.Table) -> ir.IntegerValue:
    """The ordering values as the digits of one 64-bit integer, which sorts as they do, missing ones last."""
    ordering = ibis.literal(0, "int64")
    for name, limit in ORDERING.items():
        base = 2 * limit + 2  # As many values as there are from -limit to limit + 1, the missing one.
        ordering = ordering * base + diagnoses[name].cast("int64").fill_null(limit + 1)
    return ordering


def _patients(diagnoses: ir.Table, codes: ir.Table, orderings: ir.Table, bits: PlaceBits) -> ir.Table:
    """A row a patient: `places`, each code once a visit; `distinct_ranks`; `stays`, one a visit; `diagnoses`.

    A stay is an integer too: the day of discharge, then that of admission.
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
        places=_first_of_each(patients.by_code, bits.ordering)
        .map(
            lambda number: bits.place(
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
    """Of sorted integers those that differ from the one before in more than their lowest bits."""
    return numbers.filter(
        lambda number, before: (before == 0) | ((numbers[before - 1] >> low_bits) < (number >> low_bits))
    )


def _with_context(patients: ir.Table, bits: PlaceBits, context: Context) -> ir.Table:
    """Puts the places of context tokens among those of codes, before all others of their visit."""
    known = context.of_patients(patients)
    visits_of = known.visits
    # Ibis tells the arguments of functions apart by name alone, and `index` is one of `days_to_next`.
    added = visits_of.map(
        lambda visit, position: context.ranks(known, visit, position, visits_of[position - 1]).map(
            lambda rank: bits.place(visit.day, 0, rank)
        )
    ).flatten()
    known = known.mutate(added=added)
    return known.mutate(
        places=known.places.concat(known.added).sort(),
        distinct_ranks=known.distinct_ranks.concat(
            known.added.map(lambda place: bits.code_of(place).cast("int32")).unique()
        ),
    )


def _number(day: ir.DateValue) -> ir.IntegerValue:
    """A date as a number of `_DAY_BITS`."""
    return (day.year().cast("int64") << 9) + (day.month().cast("int64") << 5) + day.day()


def _date(number: ir.IntegerValue) -> ir.DateValue:
    """The date of a number."""
    return ibis.date(number >> 9, (number >> 5) % 16, number % 32)


def _discharge(stay: ir.IntegerValue) -> ir.IntegerValue:
    return stay >> _DAY_BITS


def _admit(stay: ir.IntegerValue) -> ir.IntegerValue:
    return stay % (1 << _DAY_BITS)


def _days(start: ir.DateValue, end: ir.DateValue) -> ir.IntegerValue:
    return end.delta(start, unit="day").cast("int32")
