"""Context tokens, which precede the codes of a visit: sex, age, and the gap since the previous visit."""

from dataclasses import dataclass
from itertools import pairwise

import ibis
import ibis.expr.types as ir

from ehr_bert.schemas import ContextKind

SEXES = ("F", "M")
"""Sexes with separate tokens. Any other recorded sex is `SEX_OTHER`."""

AGE_TOKEN_BANDS = tuple(range(0, 100, 10))
"""Lower bounds of the bands of age at admission, in completed years. The last band is open."""

GAP_BANDS = (0, 8, 31, 91, 181, 366, 731)
"""Lower bounds of the bands of days since the previous discharge. The last is open; overlaps count as 0."""


@dataclass(frozen=True)
class Context:
    """The selected kinds of context tokens, and how to compute them.

    Attributes:
        kinds: Kinds of tokens. The tokens of a visit are in the order of `ContextKind`.
        patients: `PATIENTS`, one row per patient, or None if no kind needs them.
        first_rank: Rank of the first token. The other tokens have the next ranks.
    """

    kinds: frozenset[ContextKind]
    patients: ir.Table | None
    first_rank: int

    @property
    def tokens(self) -> tuple[str, ...]:
        """All context tokens, by rank."""
        return tuple(token for kind in ContextKind if kind in self.kinds for token in _TOKENS[kind])

    def with_facts(self, patients: ir.Table) -> ir.Table:
        """Add birth date and sex to a table with one row per patient; null for an unknown patient."""
        if self.patients is None:
            return patients
        known = self.patients.select("patient_id", "birth_date", "sex")
        return patients.left_join(known, "patient_id").select(*patients.columns, "birth_date", "sex")

    def ranks(
        self, patients: ir.Table, visit: ir.StructValue, index: ir.IntegerValue, previous: ir.StructValue
    ) -> ir.ArrayValue:
        """Return the ranks of the tokens of a visit, an array of int64.

        Args:
            patients: Table that `with_facts` returns.
            visit: The visit, with `admit_date`.
            index: Number of the visit in the history of its patient, from 0.
            previous: The previous visit, with `discharge_date`; ignored for the first visit.
        """
        band_indices = {
            ContextKind.SEX: lambda: _sex(patients.sex, index),
            ContextKind.AGE: lambda: _band(
                completed_years(patients.birth_date, visit.admit_date), AGE_TOKEN_BANDS
            ),
            ContextKind.GAP: lambda: _gap(visit.admit_date.delta(previous.discharge_date, unit="day"), index),
        }
        ranks, start = [], self.first_rank
        for kind in ContextKind:
            if kind in self.kinds:
                ranks.append(band_indices[kind]().cast("int64") + start)
                start += len(_TOKENS[kind])
        return ibis.array(ranks).filter(lambda rank: rank.notnull())


def _band_names(starts: tuple[int, ...]) -> list[str]:
    return [f"{start}-{end - 1}" for start, end in pairwise(starts)] + [f"{starts[-1]}+"]


_TOKENS = {
    kind: tuple(kind.prefix + name for name in names)
    for kind, names in (
        (ContextKind.SEX, [*SEXES, "OTHER"]),
        (ContextKind.AGE, _band_names(AGE_TOKEN_BANDS)),
        (ContextKind.GAP, _band_names(GAP_BANDS)),
    )
}


def _sex(sex: ir.StringValue, index: ir.IntegerValue) -> ir.IntegerValue:
    """Return the index of the sex; null if it is unknown, and after the first visit."""
    known = ((sex == name, number) for number, name in enumerate(SEXES))
    return ibis.cases((sex.isnull() | (index > 0), ibis.null("int64")), *known, else_=len(SEXES))


def completed_years(birth: ir.DateValue, day: ir.DateValue) -> ir.IntegerValue:
    """Return the age in completed years on a day; null before birth."""
    return ((_digits(day) - _digits(birth)) // 10_000).cast("int64")


def _digits(day: ir.DateValue) -> ir.IntegerValue:
    """Return YYYYMMDD as an integer. Differences divided by 10,000 are completed years."""
    return day.year().cast("int64") * 10_000 + day.month() * 100 + day.day()


def _gap(days: ir.IntegerValue, index: ir.IntegerValue) -> ir.IntegerValue:
    """Return the index of the band of the gap since the previous visit; null for the first visit."""
    gap = ibis.greatest(days, 0)
    return ibis.ifelse(index > 0, _band(gap, GAP_BANDS), ibis.null("int64"))


def _band(value: ir.IntegerValue, starts: tuple[int, ...]) -> ir.IntegerValue:
    """Return the index of the band of a value; null below the first band, and for null."""
    descending = list(enumerate(starts))[::-1]
    return ibis.cases(*((value >= start, number) for number, start in descending), else_=ibis.null("int64"))
