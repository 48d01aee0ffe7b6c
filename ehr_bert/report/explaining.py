"""The page of one example of a cohort, written to a file."""

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
    """Explains the prediction for one example.

    Args:
        model: A fine-tuned model.
        cohort: With its examples.
        row: The example, counted from 0.
        output: The HTML file.
        titles: The user's own titles of codes.

    Returns:
        What to print.

    Raises:
        UserError: the folder holds no such model, the cohort no such row, or the history nothing to explain.
    """
    saved = load_predictor(model, attention="eager")
    if saved.predictor.head.outputs != 1:
        raise UserError(f"{model} has {saved.predictor.head.outputs} outputs: a risk is of one outcome")
    if not 0 <= row < len(cohort):
        raise UserError(f"row {row}: the cohort has rows 0 to {len(cohort) - 1}")
    example = cohort.take(np.array([row]))
    task = saved.facts.get("task", LABEL)
    explanation = explain(saved, example.histories)
    heading = "Risk" if task == LABEL else f"Risk of {task.replace('_', ' ')}"
    with atomic_files(output) as (temporary,):
        temporary.write_text(
            patient_page(explanation, heading, _told(example, row, task), titles), encoding="utf-8"
        )
    attribution = explanation.attribution
    return (
        f"risk {explanation.risk:.1%}; {len(explanation.codes)} codes add "
        f"{signed(attribution.contributions.sum())} to the logit, "
        f"right to {abs(attribution.error):.0e}"
    )


def row_of_patient(cohort: Cohort, patient: str) -> int:
    """The row of a patient's latest index date.

    Raises:
        UserError: the cohort has no such patient.
    """
    rows = np.flatnonzero(cohort.patient_ids == patient)
    if len(rows) == 0:
        raise UserError("the cohort has no patient of that id")
    return int(rows[np.argsort(cohort.index_date[rows], kind="stable")[-1]])


def _told(example: Cohort, row: int, task: str) -> list[str]:
    """What is known of an example, but for who it is."""
    told = [f"row {row} of the cohort", f"{example.split[0]} split"]
    if not np.isnat(example.index_date[0]):
        told.append(f"index date {example.index_date[0]}")
    if not np.isnan(example.age[0]):
        told.append(f"age {example.age[0]:.0f}")
    if example.sex[0] is not None:
        told.append(f"sex {example.sex[0]}")
    if task in example.tasks and example.kind(task) is TaskKind.BINARY:
        label = example.labels(task)[0]
        told.append("outcome not known" if np.isnan(label) else f"outcome {'seen' if label else 'not seen'}")
    return told
