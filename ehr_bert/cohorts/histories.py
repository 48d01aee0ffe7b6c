"""The histories of examples: what was recorded up to the index date, as preprocessing orders it."""

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from ehr_bert.cohorts.building import LabelledExamples
from ehr_bert.cohorts.record import attached
from ehr_bert.cohorts.source import Source
from ehr_bert.errors import UserError
from ehr_bert.schemas import COHORT, DIAGNOSES, ContextKind
from ehr_bert.sequences.building import ordered_parts

_BETWEEN = "\x1f"
"""Parts patient and day in the key of an example: no patient id holds it, and it sorts before all text."""


def cohort_parts(
    source: Source, examples: LabelledExamples, kinds: frozenset[ContextKind]
) -> tuple[list[ir.Table], list[ir.Table]]:
    """The cohort table, in parts that follow each other in patient id and index date.

    An example is to the code that orders histories what a patient is in preprocessing.

    Args:
        source: The diagnosis table.
        examples: Of it.
        kinds: Of context tokens.

    Returns:
        Tables of `COHORT` and the tasks' columns, in order; and what the engine keeps for them.

    Raises:
        UserError: tokens of sex and age are asked for, and the source tells nothing of patients.
    """
    engine, patients = source.engine, source.diagnoses.patients
    if kinds - {ContextKind.GAP} and patients is None:
        raise UserError(
            f"{source.where} tells nothing of patients, and tokens of sex and age need their table: make the "
            "folder with `ehr-bert extract`"
        )
    table = examples.table
    key = table.patient_id + _BETWEEN + table.index_date.cast("string")
    # Tasks are called as the user likes: inside a struct they are in no other column's way.
    labels = ibis.struct({name: table[name] for name in examples.tasks})
    facts = table.select("index_date", "split", "sex", "age", person="patient_id", labels=labels, example=key)
    keys = facts.select("index_date", "example", patient_id="person")
    rows = source.rolled_up(source.read.rows).join(keys, "patient_id")
    past = rows.filter(rows.discharge_date <= rows.index_date)
    past = engine.materialise(
        past.select(patient_id="example", **{name: name for name in DIAGNOSES.names[1:]})
    )
    known = None
    if patients is not None:
        told = attached(keys, patients, "patient_id")
        known = told.drop("patient_id", "index_date").rename(patient_id="example")
    parts, codes = ordered_parts(engine, past, 0, kinds, known)
    lookup = engine.load(pa.table({"names": pa.array([list(codes)], pa.list_(pa.string()))}))
    tables = [_cohort_table(part, facts, lookup, examples.tasks) for part in parts]
    return tables, [past, *parts]


def _cohort_table(part: ir.Table, facts: ir.Table, lookup: ir.Table, tasks: tuple[str, ...]) -> ir.Table:
    """A part of the cohort table, of the histories of some examples."""
    lists = part.select(
        "code_ranks", "visit_ids", "admit_date", "los_days", "days_to_next", example="patient_id"
    )
    joined = lists.join(facts, "example").cross_join(lookup)
    named = joined.mutate(
        patient_id=joined.person, codes=joined.code_ranks.map(lambda rank: joined.names[rank])
    )
    told = {name: named.labels[name] for name in tasks}
    return named.select(*COHORT.names, **told).order_by("patient_id", "index_date")
