"""Patients and visits of a diagnosis table, computed once for all rules of a cohort."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from ehr_bert.engines import Engine
from ehr_bert.schemas import OBSERVATION, PATIENTS


@dataclass(frozen=True)
class Record:
    """Patients and visits of a diagnosis table.

    Attributes:
        visits: One row per visit, which is all rows of a patient with one discharge date: `patient_id`,
            `discharge_date`, the earliest `admit_date`, `los_days`, and one boolean column per code set, true
            if the visit has one of its codes.
        patients: One row per patient with a visit: `patient_id`; `last_discharge`; `sex`, `birth_date` and
            the columns of `OBSERVATION`, null if the source does not state them; and `observed_until`, the
            last day on which an outcome would have been recorded according to the rules. Unlike
            `observation_end`, it is never null: without a known end it is the last discharge or the day of
            death.
    """

    visits: ir.Table
    patients: ir.Table


def visits_of(engine: Engine, rows: ir.Table, code_sets: Mapping[str, Sequence[str]]) -> ir.Table:
    """Return the visits of a diagnosis table, as in `Record.visits`.

    Args:
        engine: Engine that computes.
        rows: Usable rows of the table.
        code_sets: Codes of each set, by its name.
    """
    keys = ("patient_id", "discharge_date")
    flagged = _add_code_sets(engine, rows, code_sets) if code_sets else rows
    visits = flagged.group_by(*keys).aggregate(
        admit_date=flagged.admit_date.min(), **{name: flagged[name].any() for name in code_sets}
    )
    return visits.mutate(los_days=visits.discharge_date.delta(visits.admit_date, unit="day").cast("int32"))


def observed_patients(visits: ir.Table, known: ir.Table | None, observed_until: date | None) -> ir.Table:
    """Return the patients of visits, as in `Record.patients`.

    Args:
        visits: Visits, as `visits_of` returns them.
        known: `PATIENTS`, if the source has them.
        observed_until: Last day of observation of all living patients, if a definition states it. It
            changes the column `observed_until` but not `observation_end`.
    """
    patients = visits.group_by("patient_id").aggregate(last_discharge=visits.discharge_date.max())
    facts = {name: kind for name, kind in ibis.schema(PATIENTS).items() if name != "patient_id"}
    if known is None:
        joined = patients.mutate(**{name: ibis.null(kind) for name, kind in facts.items()})
    else:
        joined = add_columns(patients, known.select("patient_id", *facts), "patient_id")
    end = joined.observation_end if observed_until is None else ibis.literal(observed_until)
    until = ibis.greatest(ibis.coalesce(end, joined.last_discharge), joined.last_discharge)
    alive_until = ibis.coalesce(joined.death_date, until)
    return joined.select(
        "patient_id",
        "last_discharge",
        "sex",
        "birth_date",
        *OBSERVATION.names,
        observed_until=ibis.least(until, alive_until),
    )


def add_columns(left: ir.Table, right: ir.Table, *keys: str) -> ir.Table:
    """Return `left` with the other columns of `right`, null where a key has no row in `right`.

    Args:
        left: A table with the columns `keys`.
        right: A table with at most one row per key.
        keys: Names of the columns to join on.
    """
    others = [name for name in right.columns if name not in keys]
    return left.left_join(right, keys).select(*left.columns, *others)


def _add_code_sets(engine: Engine, rows: ir.Table, code_sets: Mapping[str, Sequence[str]]) -> ir.Table:
    """Return rows with one boolean column per set, true if the code is in it."""
    codes = sorted({code for codes in code_sets.values() for code in codes})
    members = {name: set(members) for name, members in code_sets.items()}
    columns = {name: pa.array([code in members[name] for code in codes], pa.bool_()) for name in members}
    lookup = engine.load(pa.table({"listed": pa.array(codes, pa.string()), **columns}))
    joined = rows.left_join(lookup, rows.code == lookup.listed)
    return joined.select(*rows.columns, **{name: joined[name].fill_null(False) for name in members})
