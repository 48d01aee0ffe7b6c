"""The diagnoses of each patient, put in order: visits by discharge, codes inside a visit, each code once.

All of it is Ibis expressions that hold on every engine. Since no engine's ordered aggregation is like
another's, order inside a list comes from sorting a list of integers or structs whose first field decides.
"""

import ibis
import ibis.expr.types as ir

from ehr_bert.sources.checks import ORDERING
from ehr_bert.splits import split_of

_RANKS = 2**32
"""A place is `ordering rank * _RANKS + code rank`: by it the codes of a visit are ordered."""


def code_ranks(diagnoses: ir.Table) -> ir.Table:
    """Every code of a diagnosis table with its place in the alphabet: `code`, `code_rank` from 0."""
    codes = diagnoses.select("code").distinct()
    return codes.mutate(code_rank=ibis.row_number().over(order_by=codes.code))


def ordering_ranks(diagnoses: ir.Table) -> ir.Table:
    """Every combination of ordering values with its place: `ordering`, `ordering_rank` from 0."""
    orderings = diagnoses.select(ordering=_ordering(diagnoses)).distinct()
    return orderings.mutate(ordering_rank=ibis.row_number().over(order_by=orderings.ordering))


def histories(diagnoses: ir.Table, codes: ir.Table, orderings: ir.Table, seed: int) -> ir.Table:
    """One row a patient, in no order.

    Args:
        diagnoses: The usable rows of a diagnosis table.
        codes: `code_ranks` of them, or of more.
        orderings: `ordering_ranks` of them, or of more.
        seed: Decides the split.

    Returns:
        The columns of `SEQUENCES`, with `code_ranks` in place of `token_ids`; and `split`; `discharge_date`,
        of the last visit; `diagnoses`, the rows that the patient had.
    """
    visits = _visits(_coded_visits(diagnoses, codes, orderings))
    patients = visits.group_by("patient_id").aggregate(
        visits=ibis.struct({name: visits[name] for name in ("discharge_date", "admit_date", "places")})
        .collect()
        .sort(),
        diagnoses=visits.diagnoses.sum(),
    )
    visits_of = patients.visits
    return patients.select(
        "patient_id",
        "diagnoses",
        split=split_of(patients.patient_id, seed),
        code_ranks=visits_of.map(lambda visit: visit.places)
        .flatten()
        .map(lambda place: (place % _RANKS).cast("int32")),
        visit_ids=visits_of.map(
            lambda visit, index: visit.places.map(lambda place: (index + 1).cast("int32"))
        ).flatten(),
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


def _coded_visits(diagnoses: ir.Table, codes: ir.Table, orderings: ir.Table) -> ir.Table:
    """A row a patient, visit and code: its first place there."""
    ordered = diagnoses.mutate(ordering=_ordering(diagnoses))
    ranked = ordered.join(codes, "code").join(orderings, "ordering")
    return ranked.group_by("patient_id", "discharge_date", "code_rank").aggregate(
        place=ranked.ordering_rank.min() * _RANKS,
        admit_date=ranked.admit_date.min(),
        diagnoses=ranked.count(),
    )


def _visits(coded: ir.Table) -> ir.Table:
    """A row a patient and visit, its places in order."""
    return coded.group_by("patient_id", "discharge_date").aggregate(
        places=(coded.place + coded.code_rank).collect().sort(),
        admit_date=coded.admit_date.min(),
        diagnoses=coded.diagnoses.sum(),
    )


def _days(start: ir.DateValue, end: ir.DateValue) -> ir.IntegerValue:
    return end.delta(start, unit="day").cast("int32")
