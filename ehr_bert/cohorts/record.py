"""What the rules of a cohort look at: patients and their visits, computed once from a diagnosis table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from ehr_bert.engines import Engine
from ehr_bert.schemas import PATIENTS


@dataclass(frozen=True)
class Record:
    """Patients and visits.

    Attributes:
        visits: A row a visit, all rows of a patient with one discharge date: `patient_id`, `discharge_date`,
            `admit_date`, the earliest, `los_days`, and for each set of codes, under its name, whether the
            visit holds one of them.
        patients: A row a patient with a visit: `patient_id`; `last_discharge`; `sex`, `birth_date` and
            `death_date`, null where they aren't known; `observed_until`, the last day on which an outcome
            would have been seen.
    """

    visits: ir.Table
    patients: ir.Table


def visits_of(engine: Engine, rows: ir.Table, code_sets: Mapping[str, Sequence[str]]) -> ir.Table:
    """The visits of a diagnosis table.

    Args:
        engine: Where to compute.
        rows: Its usable rows.
        code_sets: By name, codes.
    """
    keys = ("patient_id", "discharge_date")
    flagged = _flagged(engine, rows, code_sets) if code_sets else rows
    visits = flagged.group_by(*keys).aggregate(
        admit_date=flagged.admit_date.min(), **{name: flagged[name].any() for name in code_sets}
    )
    return visits.mutate(los_days=visits.discharge_date.delta(visits.admit_date, unit="day").cast("int32"))


def observed_patients(visits: ir.Table, known: ir.Table | None, observed_until: date | None) -> ir.Table:
    """The patients of some visits.

    Args:
        visits: As `visits_of` makes them.
        known: `PATIENTS`, where the source tells of them.
        observed_until: The day until which everyone is watched who is alive, if it is one for all.
    """
    seen = visits.group_by("patient_id").aggregate(last_discharge=visits.discharge_date.max())
    told = [field.name for field in PATIENTS if field.name != "patient_id"]
    if known is None:
        joined = seen.mutate(**{name: ibis.null("string" if name == "sex" else "date") for name in told})
    else:
        joined = attached(seen, known.select("patient_id", *told), "patient_id")
    end = joined.observation_end if observed_until is None else ibis.literal(observed_until)
    until = ibis.greatest(ibis.coalesce(end, joined.last_discharge), joined.last_discharge)
    alive_until = ibis.coalesce(joined.death_date, until)
    return joined.select(
        "patient_id",
        "last_discharge",
        "sex",
        "birth_date",
        "death_date",
        observed_until=ibis.least(until, alive_until),
    )


def attached(left: ir.Table, right: ir.Table, *keys: str) -> ir.Table:
    """`left` with the other columns of `right`, which has a row at most for a key; null where it has none."""
    others = [name for name in right.columns if name not in keys]
    return left.left_join(right, keys).select(*left.columns, *others)


def _flagged(engine: Engine, rows: ir.Table, code_sets: Mapping[str, Sequence[str]]) -> ir.Table:
    """Rows with a column for each set, whether their code is in it."""
    codes = sorted({code for codes in code_sets.values() for code in codes})
    members = {name: set(members) for name, members in code_sets.items()}
    columns = {name: pa.array([code in members[name] for code in codes], pa.bool_()) for name in members}
    lookup = engine.load(pa.table({"listed": pa.array(codes, pa.string()), **columns}))
    joined = rows.left_join(lookup, rows.code == lookup.listed)
    return joined.select(*rows.columns, **{name: joined[name].fill_null(False) for name in members})
