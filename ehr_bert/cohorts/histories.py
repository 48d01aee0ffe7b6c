"""Histories of examples: the codes up to the index date, in the order of preprocessing."""

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from ehr_bert.cohorts.building import LabelledExamples
from ehr_bert.cohorts.record import add_columns
from ehr_bert.cohorts.source import Source
from ehr_bert.errors import UserError
from ehr_bert.schemas import COHORT, DIAGNOSES, OBSERVATION, ContextKind
from ehr_bert.sequences.building import ordered_parts

_SEPARATOR = "\x1f"
"""Separates patient and day in the key of an example. It sorts before all text, and no patient id has it."""


def cohort_parts(
    source: Source, examples: LabelledExamples, kinds: frozenset[ContextKind]
) -> tuple[list[ir.Table], list[ir.Table]]:
    """Return the cohort table in parts, in order of patient id and index date.

    The function that orders histories in preprocessing runs with one example in place of each patient.

    Args:
        source: The diagnosis table.
        examples: Its examples.
        kinds: Kinds of context tokens.

    Returns:
        Tables of `COHORT` and the tasks' columns, and the tables to drop after use.

    Raises:
        UserError: Tokens of sex or age are requested and the source has no patient table (key
            `missing-patients-table`).
    """
    engine, patients = source.engine, source.events.patients
    if kinds - {ContextKind.GAP} and patients is None:
        raise UserError(
            "missing-patients-table",
            f"{source.path} has no patient table, which the tokens sex and age require. Create the "
            "folder with `ehr-bert extract`.",
        )
    table = examples.table
    key = table.patient_id + _SEPARATOR + table.index_date.cast("string")
    # Users choose the names of tasks. Inside a struct they cannot clash with other columns.
    labels = ibis.struct({name: table[name] for name in examples.tasks})
    facts = table.select(
        *("index_date", "split", "sex", "age", *OBSERVATION.names),
        person="patient_id",
        labels=labels,
        example=key,
    )
    keys = facts.select("index_date", "example", patient_id="person")
    rows = source.roll_up(source.usable.rows).join(keys, "patient_id")
    past = rows.filter(rows.discharge_date <= rows.index_date)
    past = engine.materialise(
        past.select(patient_id="example", **{name: name for name in DIAGNOSES.names[1:]})
    )
    known = None
    if patients is not None and kinds:
        by_example = add_columns(keys, patients, "patient_id")
        known = by_example.drop("patient_id", "index_date").rename(patient_id="example")
    parts, codes = ordered_parts(engine, past, 0, kinds, known)
    lookup = engine.load(pa.table({"names": pa.array([list(codes)], pa.list_(pa.string()))}))
    tables = [_cohort_table(part, facts, lookup, examples.tasks) for part in parts]
    return tables, [past, *parts]


def _cohort_table(part: ir.Table, facts: ir.Table, lookup: ir.Table, tasks: tuple[str, ...]) -> ir.Table:
    """Return the part of the cohort table that has the histories of `part`."""
    lists = part.select(
        "code_ranks", "visit_ids", "admit_date", "los_days", "days_to_next", example="patient_id"
    )
    joined = lists.join(facts, "example").cross_join(lookup)
    named = joined.mutate(
        patient_id=joined.person, codes=joined.code_ranks.map(lambda rank: joined.names[rank])
    )
    labels = {name: named.labels[name] for name in tasks}
    return named.select(*COHORT.names, **labels).order_by("patient_id", "index_date")
