"""The cohort folder: the cohort table, its definition, and a summary."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from ehr_bert import __version__
from ehr_bert.codes import RollUp
from ehr_bert.cohorts.audit import Finding, audit, one_side_each, refuse_leaks
from ehr_bert.cohorts.building import LabelledExamples, build_examples, labelled_examples
from ehr_bert.cohorts.cohort import COHORT_FOLDER
from ehr_bert.cohorts.definition import Definition
from ehr_bert.cohorts.histories import cohort_parts
from ehr_bert.cohorts.label_files import RISK, read_labels
from ehr_bert.cohorts.labelled_pickles import read_labelled_pickles
from ehr_bert.cohorts.record import attached
from ehr_bert.cohorts.rules import flow
from ehr_bert.cohorts.shortcuts import shortcuts
from ehr_bert.cohorts.source import Source
from ehr_bert.cohorts.task_columns import kind_of_column
from ehr_bert.engines import Engine
from ehr_bert.files import SUMMARY_FILE, atomic_folder, write_json
from ehr_bert.schemas import COHORT, LABEL, ContextKind, Split, TaskKind
from ehr_bert.sources import read_diagnoses

SHARD_EXAMPLES = 50_000
"""Examples in a Parquet file, but for the last."""

DEFINITION_FILE = "definition.toml"
RISK_FILE = "risk.parquet"
"""The true risk of each row of the cohort table, where a table of labels has it: apart, since no model may
see it."""


def write_cohort_folder(
    engine: Engine,
    table: Path,
    folder: Path,
    asked: Definition | Path,
    seed: int = 0,
    roll_up: RollUp = RollUp.NONE,
    kinds: frozenset[ContextKind] = frozenset(),
) -> dict[str, Any]:
    """Makes a cohort of a diagnosis table, in a folder that is whole or absent.

    Args:
        engine: Where to compute.
        table: The diagnosis table, as `read_diagnoses` takes it.
        folder: The folder to write: `cohort/*.parquet`, `summary.json`, and `definition.toml` or, with risks
            in a table of labels, `risk.parquet`.
        asked: What the cohort is, or a table of labels, as `read_labels` takes it.
        seed: Decides splits, as in preprocessing, and which controls are matched.
        roll_up: What the codes of histories are rolled up to; a definition means codes as they are.
        kinds: Of context tokens.

    Returns:
        The summary.

    Raises:
        UserError: the table can't be used, nobody is left, the leakage audit fails, or `folder` is something
            else.
    """
    labels = None if isinstance(asked, Definition) else read_labels(asked)
    inputs = [table] if labels is None else [table, asked]
    with atomic_folder(folder, "cohort", *inputs) as temporary:
        source = Source.of(engine, table, read_diagnoses(engine, table), roll_up)
        if isinstance(asked, Definition):
            definition, told = asked, asked.to_dict()
            examples = build_examples(source, asked, seed)
            asked.write(temporary / DEFINITION_FILE)
        else:
            definition, told = None, {"labels": asked.name}
            examples = labelled_examples(source, labels, seed)
        parts, kept = cohort_parts(source, examples, kinds)
        written = _written_table(engine, parts, examples, temporary)
        findings = [*audit(source, written, definition, seed), *shortcuts(engine, written)]
        read = source.read
        facts = {
            "definition": told,
            "seed": seed,
            "roll_up": roll_up.value,
            "tokens": [kind.value for kind in ContextKind if kind in kinds],
            "rows": {"read": read.count + sum(read.rejected.values()), "rejected": read.rejected},
            "codes": examples.codes,
        }
        summary = _summary(engine, examples, facts, findings)
        write_json(temporary / SUMMARY_FILE, summary)
        if labels is not None and RISK in labels.column_names:
            _write_risk(engine, examples, labels, temporary / RISK_FILE)
        for computed in (*kept, examples.table, read.kept):
            engine.drop(computed)
    return summary


def write_pickled_cohort(engine: Engine, prefix: Path, types: Path, folder: Path) -> dict[str, Any]:
    """Makes a cohort folder of the tutorial's labelled pickles, which is whole or absent.

    Args:
        engine: Where to compute.
        prefix: Of the pickles, as `read_labelled_pickles` takes it.
        types: What tells their codes.
        folder: The folder to write: `cohort/*.parquet` and `summary.json`.

    Returns:
        The summary.

    Raises:
        UserError: the pickles can't be used or hold no patient, the leakage audit fails, or `folder` is
            something else.
    """
    rows = read_labelled_pickles(prefix, types)
    with atomic_folder(folder, "cohort", prefix, types) as temporary:
        table = engine.load(rows)
        steps = flow(engine, table.mutate(passed=1), ["labelled pickles"])
        examples = LabelledExamples(table, (LABEL,), tuple(steps), {})
        facts = {"definition": {"pickles": prefix.name}}
        written = _written_table(engine, [table.order_by("patient_id")], examples, temporary)
        findings = [one_side_each(engine, written), *shortcuts(engine, written)]
        summary = _summary(engine, examples, facts, findings)
        write_json(temporary / SUMMARY_FILE, summary)
    return summary


def _written_table(
    engine: Engine, parts: list[ir.Table], examples: LabelledExamples, folder: Path
) -> ir.Table:
    """Writes the cohort table, whose parts are in order; as it is read again."""
    schema = pa.schema([*COHORT, *(pa.field(*column) for column in _task_columns(examples).items())])
    with tqdm(desc="writing the cohort", total=1, unit="table") as progress:
        engine.write_parquet(parts, folder / COHORT_FOLDER, schema, SHARD_EXAMPLES)
        progress.update()
    return engine.read_parquet(folder / COHORT_FOLDER)


def _summary(
    engine: Engine, examples: LabelledExamples, facts: dict[str, Any], findings: list[Finding]
) -> dict[str, Any]:
    """What `summary.json` holds: `facts`, and what is counted here.

    Raises:
        UserError: a finding of the leakage audit is more than a warning.
    """
    refuse_leaks(findings)
    tasks = {name: kind_of_column(type_) for name, type_ in _task_columns(examples).items()}
    return {
        "version": __version__,
        **facts,
        "tasks": tasks,
        "flow": [asdict(step) for step in examples.flow],
        "splits": _splits(engine, examples, tasks),
        "audit": [finding.to_dict() for finding in findings],
    }


def _task_columns(examples: LabelledExamples) -> dict[str, pa.DataType]:
    """The type of each task's column."""
    return {name: examples.table.schema()[name].to_pyarrow() for name in examples.tasks}


def _splits(engine: Engine, examples: LabelledExamples, tasks: dict[str, str | None]) -> dict[str, Any]:
    """By split, how many examples, patients, and by task labels and ones."""
    table = examples.table
    binary = [name for name, kind in tasks.items() if kind == TaskKind.BINARY]
    # Numbers in place of names, which could be those of other columns.
    counts = table.group_by("split").aggregate(
        examples=table.count(),
        patients=table.patient_id.nunique(),
        **{f"labels_{place}": table[name].count() for place, name in enumerate(tasks)},
        **{f"ones_{place}": table[name].sum() for place, name in enumerate(binary)},
    )
    by_split = {row["split"]: row for row in engine.collect(counts).to_pylist()}

    def number(split: Split, name: str) -> int:
        return by_split.get(split.value, {}).get(name) or 0

    return {
        split.value: {
            "examples": number(split, "examples"),
            "patients": number(split, "patients"),
            "labels": {name: number(split, f"labels_{place}") for place, name in enumerate(tasks)},
            "positives": {name: number(split, f"ones_{place}") for place, name in enumerate(binary)},
        }
        for split in Split
    }


def _write_risk(engine: Engine, examples: LabelledExamples, labels: pa.Table, path: Path) -> None:
    """Writes the risks in the order of the cohort table's rows."""
    risks = engine.load(labels.select(["patient_id", "index_date", RISK]))
    rows = attached(examples.table.select("patient_id", "index_date"), risks, "patient_id", "index_date")
    ordered = engine.collect(rows.order_by("patient_id", "index_date"))
    pq.write_table(ordered.select([RISK]), path)
