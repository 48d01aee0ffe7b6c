"""The cohort folder: the cohort table, its definition, and a summary."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from ehr_bert import __version__
from ehr_bert.codes import RollUp
from ehr_bert.cohorts.audit import AuditedCohort, audit, refuse_leaks
from ehr_bert.cohorts.building import LabelledExamples, build_examples, labelled_examples
from ehr_bert.cohorts.cohort import COHORT_FOLDER
from ehr_bert.cohorts.definition import Definition
from ehr_bert.cohorts.findings import Finding
from ehr_bert.cohorts.histories import cohort_parts
from ehr_bert.cohorts.label_files import RISK, read_labels
from ehr_bert.cohorts.labelled_pickles import read_labelled_pickles
from ehr_bert.cohorts.record import add_columns
from ehr_bert.cohorts.rules import cohort_flow
from ehr_bert.cohorts.source import Source
from ehr_bert.cohorts.task_columns import kind_of_column
from ehr_bert.engines import Engine
from ehr_bert.files import SUMMARY_FILE, atomic_folder, write_json
from ehr_bert.schemas import COHORT, LABEL, ContextKind, Split, TaskKind
from ehr_bert.sources import read_events

logger = logging.getLogger(__name__)

SHARD_EXAMPLES = 50_000
"""Number of examples per Parquet file. The last file may have fewer."""

DEFINITION_FILE = "definition.toml"
RISK_FILE = "risk.parquet"
"""True risks from a label table, in the order of the cohort table. No model may use them."""


def write_cohort_folder(
    engine: Engine,
    table: Path,
    folder: Path,
    definition: Definition | Path,
    seed: int = 0,
    roll_up: RollUp = RollUp.NONE,
    kinds: frozenset[ContextKind] = frozenset(),
    zone: ZoneInfo | None = None,
) -> dict[str, Any]:
    """Build a cohort from a diagnosis table and write it to a folder, atomically.

    Args:
        engine: Engine that computes.
        table: The diagnosis table, as `read_events` reads it.
        folder: The folder to write: `cohort/*.parquet`, `summary.json`, and `definition.toml`, or
            `risk.parquet` if a label table has risks.
        definition: A definition, or the path of a label table, as `read_labels` reads it.
        seed: Seed of the splits, as in preprocessing, and of matching.
        roll_up: Roll-up of the codes of histories. Definitions always use the codes of the table.
        kinds: Kinds of context tokens.
        zone: Time zone of the days of a Parquet table, as for `read_events`.

    Returns:
        The content of `summary.json`.

    Raises:
        UserError: The table cannot be used, no patient is eligible (key `empty-cohort`), the cohort fails the
            leakage audit (`leakage-audit-failed`), or `folder` is not an earlier cohort (`output-not-empty`).
    """
    labels = None if isinstance(definition, Definition) else read_labels(definition)
    inputs = [table] if labels is None else [table, definition]
    with atomic_folder(folder, "cohort", *inputs) as temporary:
        source = Source.read(engine, table, read_events(engine, table, zone), roll_up)
        if isinstance(definition, Definition):
            rules, recorded = definition, definition.to_dict()
            examples = build_examples(source, definition, seed)
            definition.write(temporary / DEFINITION_FILE)
        else:
            rules, recorded = None, {"labels": definition.name}
            examples = labelled_examples(source, labels, seed)
        parts, kept = cohort_parts(source, examples, kinds)
        written = _write_table(engine, parts, examples, temporary)
        findings = audit(AuditedCohort(engine, written, source, rules, seed))
        usable = source.usable
        facts = {
            "definition": recorded,
            "seed": seed,
            "roll_up": roll_up.value,
            "tokens": [kind.value for kind in ContextKind if kind in kinds],
            "rows": {
                "read": usable.read,
                "of_other_kinds": usable.other_kinds,
                "rejected": usable.rejected,
            },
            "codes": examples.codes,
        }
        summary = _summary(engine, examples, facts, findings)
        write_json(temporary / SUMMARY_FILE, summary)
        if labels is not None and RISK in labels.column_names:
            _write_risk(engine, examples, labels, temporary / RISK_FILE)
        for computed in (*kept, examples.table, usable.all_rows):
            engine.drop(computed)
    return summary


def write_pickled_cohort(engine: Engine, prefix: Path, types: Path, folder: Path) -> dict[str, Any]:
    """Write the tutorial's labelled pickles as a cohort folder, atomically.

    Args:
        engine: Engine that computes.
        prefix: Prefix of the pickles, as `read_labelled_pickles` takes it.
        types: The `.types` file or vocabulary of their codes.
        folder: The folder to write: `cohort/*.parquet` and `summary.json`.

    Returns:
        The content of `summary.json`.

    Raises:
        UserError: The pickles cannot be used or have no patient, the cohort fails the leakage audit (key
            `leakage-audit-failed`), or `folder` is not an earlier cohort (`output-not-empty`).
    """
    rows = read_labelled_pickles(prefix, types)
    with atomic_folder(folder, "cohort", prefix, types) as temporary:
        table = engine.load(rows)
        steps = cohort_flow(engine, table.mutate(passed=1), ["patients of the pickles"])
        examples = LabelledExamples(table, (LABEL,), tuple(steps), {})
        facts = {"definition": {"pickles": prefix.name}}
        written = _write_table(engine, [table.order_by("patient_id")], examples, temporary)
        summary = _summary(engine, examples, facts, audit(AuditedCohort(engine, written)))
        write_json(temporary / SUMMARY_FILE, summary)
    return summary


def _write_table(engine: Engine, parts: list[ir.Table], examples: LabelledExamples, folder: Path) -> ir.Table:
    """Write the cohort table, whose parts are in order, and return it as read from the files."""
    schema = pa.schema([*COHORT, *(pa.field(*column) for column in _task_columns(examples).items())])
    is_quiet = not logger.isEnabledFor(logging.INFO)
    with tqdm(desc="writing the cohort", total=1, unit="table", disable=is_quiet) as progress:
        engine.write_parquet(parts, folder / COHORT_FOLDER, schema, SHARD_EXAMPLES)
        progress.update()
    return engine.read_parquet(folder / COHORT_FOLDER)


def _summary(
    engine: Engine, examples: LabelledExamples, facts: dict[str, Any], findings: list[Finding]
) -> dict[str, Any]:
    """Return the content of `summary.json`: `facts`, and the counts of the cohort.

    Raises:
        UserError: The cohort fails the leakage audit (key `leakage-audit-failed`).
    """
    refuse_leaks(findings)
    tasks = {name: kind_of_column(type_) for name, type_ in _task_columns(examples).items()}
    return {
        "version": __version__,
        **facts,
        "tasks": tasks,
        "flow": [asdict(step) for step in examples.flow],
        "splits": _split_counts(engine, examples, tasks),
        "audit": [finding.to_dict() for finding in findings],
    }


def _task_columns(examples: LabelledExamples) -> dict[str, pa.DataType]:
    """Return the type of each task's column."""
    return {name: examples.table.schema()[name].to_pyarrow() for name in examples.tasks}


def _split_counts(engine: Engine, examples: LabelledExamples, tasks: dict[str, str | None]) -> dict[str, Any]:
    """Return the number of examples and patients by split, and of labels and cases by split and task."""
    table = examples.table
    binary = [name for name, kind in tasks.items() if kind == TaskKind.BINARY]
    # Numbers replace the names of tasks, which could be those of other columns.
    counts = table.group_by("split").aggregate(
        examples=table.count(),
        patients=table.patient_id.nunique(),
        **{f"labels_{number}": table[name].count() for number, name in enumerate(tasks)},
        **{f"cases_{number}": table[name].sum() for number, name in enumerate(binary)},
    )
    by_split = {row["split"]: row for row in engine.collect(counts).to_pylist()}

    def count_of(split: Split, name: str) -> int:
        return by_split.get(split.value, {}).get(name) or 0

    return {
        split.value: {
            "examples": count_of(split, "examples"),
            "patients": count_of(split, "patients"),
            "labels": {name: count_of(split, f"labels_{number}") for number, name in enumerate(tasks)},
            "positives": {name: count_of(split, f"cases_{number}") for number, name in enumerate(binary)},
        }
        for split in Split
    }


def _write_risk(engine: Engine, examples: LabelledExamples, labels: pa.Table, path: Path) -> None:
    """Write the risks in the order of the cohort table's rows."""
    risks = engine.load(labels.select(["patient_id", "index_date", RISK]))
    rows = add_columns(examples.table.select("patient_id", "index_date"), risks, "patient_id", "index_date")
    ordered = engine.collect(rows.order_by("patient_id", "index_date"))
    pq.write_table(ordered.select([RISK]), path)
