"""HTML file that explains the prediction for one example of a cohort."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ehr_bert.cohorts.cohort import Cohort
from ehr_bert.errors import UserError
from ehr_bert.files import atomic_files
from ehr_bert.prediction.explaining.explanation import explain
from ehr_bert.prediction.predictor import load_predictor
from ehr_bert.report.patient_drawings import signed
from ehr_bert.report.patient_page import patient_page
from ehr_bert.schemas import LABEL, TaskKind


def write_patient_page(
    model: Path, cohort: Cohort, row: int, output: Path, titles: Mapping[str, str] | None = None
) -> str:
    """Write the explanation of the prediction for one example.

    Args:
        model: Folder of a fine-tuned model.
        cohort: The cohort.
        row: Row of the example in the cohort, from 0.
        output: HTML file to write.
        titles: User-defined titles of codes.

    Returns:
        A summary to print.

    Raises:
        UserError: The model cannot be read or has several outputs (key `several-outputs`), the cohort has no
            such row (`unknown-row`), or the history has no code to explain (`nothing-to-explain`).
    """
    saved = load_predictor(model, attention="eager")
    if saved.predictor.head.outputs != 1:
        raise UserError(
            "several-outputs",
            f"{model} has {saved.predictor.head.outputs} outputs, but only one can be explained. Choose "
            "a model with one outcome.",
        )
    if not 0 <= row < len(cohort):
        raise UserError(
            "unknown-row", f"the cohort has no row {row}. Choose one from 0 to {len(cohort) - 1}."
        )
    example = cohort.take(np.array([row]))
    task = saved.facts.get("task", LABEL)
    explanation = explain(saved, example.histories)
    heading = "Risk" if task == LABEL else f"Risk of {task.replace('_', ' ')}"
    with atomic_files(output) as (temporary,):
        temporary.write_text(
            patient_page(explanation, heading, _facts(example, row, task), titles), encoding="utf-8"
        )
    attribution = explanation.attribution
    return (
        f"risk {explanation.risk:.1%}; {len(explanation.codes)} codes contribute "
        f"{signed(attribution.contributions.sum())} to the logit (error {abs(attribution.error):.0e})"
    )


def row_of_patient(cohort: Cohort, patient: str) -> int:
    """Return the row of a patient's latest index date.

    Raises:
        UserError: The patient is not in the cohort (key `unknown-patient`).
    """
    rows = np.flatnonzero(cohort.patient_ids == patient)
    if len(rows) == 0:
        raise UserError(
            "unknown-patient", "the cohort has no patient with this id. Choose another --patient."
        )
    return int(rows[np.argsort(cohort.index_date[rows], kind="stable")[-1]])


def _facts(example: Cohort, row: int, task: str) -> list[str]:
    """Return the facts of an example, without the patient's id."""
    facts = [f"row {row} of the cohort", f"{example.split[0]} split"]
    if not np.isnat(example.index_date[0]):
        facts.append(f"index date {example.index_date[0]}")
    if not np.isnan(example.age[0]):
        facts.append(f"age {example.age[0]:.0f}")
    if example.sex[0] is not None:
        facts.append(f"sex {example.sex[0]}")
    if task in example.tasks and example.kind(task) is TaskKind.BINARY:
        label = example.labels(task)[0]
        facts.append("outcome unknown" if np.isnan(label) else "case" if label else "control")
    return facts
