"""Tokens that tell of a patient or a visit, before its codes: sex, age, and the gap since the last visit."""

from dataclasses import dataclass
from itertools import pairwise

import ibis
import ibis.expr.types as ir

from ehr_bert.schemas import ContextKind

SEXES = ("F", "M")
"""Sexes with a token each; any other that is recorded is `SEX_OTHER`."""

AGE_TOKEN_BANDS = tuple(range(0, 100, 10))
"""Where bands of age at admission begin, in whole years; the last is open."""

GAP_BANDS = (0, 8, 31, 91, 181, 366, 731)
"""Where bands of days since the last discharge begin; the last is open, the first takes overlaps in."""


@dataclass(frozen=True)
class Context:
    """The context tokens of a run.

    Attributes:
        kinds: Which kinds of tokens; those of a visit stand in the order of `ContextKind`.
        patients: `PATIENTS`, one row a patient; null if no kind needs them.
        first_rank: The rank of the first token; the others follow.
    """

    kinds: frozenset[ContextKind]
    patients: ir.Table | None
    first_rank: int

    @property
    def tokens(self) -> tuple[str, ...]:
        """All tokens, by rank."""
        return tuple(token for kind in ContextKind if kind in self.kinds for token in _TOKENS[kind])

    def of_patients(self, patients: ir.Table) -> ir.Table:
        """Adds what the tokens need to a table by patient; null for a patient who isn't known."""
        if self.patients is None:
            return patients
        known = self.patients.select("patient_id", "birth_date", "sex")
        return patients.left_join(known, "patient_id").select(*patients.columns, "birth_date", "sex")

    def ranks(
        self, patients: ir.Table, visit: ir.StructValue, index: ir.IntegerValue, last: ir.StructValue
    ) -> ir.ArrayValue:
        """The ranks of the tokens of a visit, an array of int64.

        Args:
            patients: As `of_patients` gives it.
            visit: With `admit_date`.
            index: The visit's place in its patient's history, from 0.
            last: The visit before, with `discharge_date`; whatever it is for the first.
        """
        positions = {
            ContextKind.SEX: lambda: _sex(patients.sex, index),
            ContextKind.AGE: lambda: _band(
                completed_years(patients.birth_date, visit.admit_date), AGE_TOKEN_BANDS
            ),
            ContextKind.GAP: lambda: _gap(visit.admit_date.delta(last.discharge_date, unit="day"), index),
        }
        ranks, start = [], self.first_rank
        for kind in ContextKind:
            if kind in self.kinds:
                ranks.append(positions[kind]().cast("int64") + start)
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
    """A sex's position; null if it isn't known, and after the first visit."""
    known = ((sex == name, position) for position, name in enumerate(SEXES))
    return ibis.cases((sex.isnull() | (index > 0), ibis.null("int64")), *known, else_=len(SEXES))


def completed_years(birth: ir.DateValue, day: ir.DateValue) -> ir.IntegerValue:
    """Completed years of life on a day; null before birth."""
    return ((_digits(day) - _digits(birth)) // 10_000).cast("int64")


def _digits(day: ir.DateValue) -> ir.IntegerValue:
    """YYYYMMDD, whose differences count completed years in ten thousands."""
    return day.year().cast("int64") * 10_000 + day.month() * 100 + day.day()


def _gap(days: ir.IntegerValue, index: ir.IntegerValue) -> ir.IntegerValue:
    """The position of a gap since the last visit; null at the first."""
    since = ibis.greatest(days, 0)
    return ibis.ifelse(index > 0, _band(since, GAP_BANDS), ibis.null("int64"))


def _band(value: ir.IntegerValue, starts: tuple[int, ...]) -> ir.IntegerValue:
    """The position of the band that holds a value; null below the first, and for null."""
    falling = list(enumerate(starts))[::-1]
    return ibis.cases(*((value >= start, position) for position, start in falling), else_=ibis.null("int64"))
