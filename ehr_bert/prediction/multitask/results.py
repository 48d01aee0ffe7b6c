"""What the stages came to: figures of every training, and a table of the stages with intervals."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from ehr_bert.files import SUMMARY_FILE, nan_to_none, read_json
from ehr_bert.metrics.bootstrap import bootstrap, bootstrap_difference
from ehr_bert.metrics.calibration import fit_calibration
from ehr_bert.prediction.multitask.data import TaskData
from ehr_bert.prediction.multitask.labels import TaskLabels
from ehr_bert.prediction.multitask.measures import TASK_MEASURES
from ehr_bert.prediction.multitask.stages import Stage, TaskRun, read_predictions
from ehr_bert.schemas import Split, TaskKind

TASK_REPLICATES = {kind: 200 if kind is TaskKind.MULTILABEL else 1000 for kind in TaskKind}
"""How often test patients are drawn; less often where each draw ranks hundreds of codes."""


def results(data: Sequence[TaskData], seeds: int, output: Path) -> dict[str, Any]:
    """The figures of all trainings.

    Args:
        data: The tasks.
        seeds: How many each was trained with.
        output: Where the finished trainings are.

    Returns:
        For JSON: `tasks` tells each task's examples, `records` the figures of each training, and `table`
        those of each stage, averaged over seeds, with intervals over test patients, and by how much they are
        above those of the task alone. What isn't defined is None.
    """
    records, table = [], []
    for each in data:
        means: dict[Stage, np.ndarray] = {}
        for stage in _stages(each):
            predictions = []
            for seed in range(1, seeds + 1):
                run = TaskRun(stage, None if stage is Stage.JOINT else each.task.name, seed)
                valid, test = predictions_of(each, run, output)
                facts = read_json(run.folder(output) / SUMMARY_FILE)
                records.append(
                    {
                        "task": each.task.name,
                        "stage": stage.value,
                        "seed": seed,
                        "valid": _figures(each, Split.VALID, valid),
                        "test": _figures(each, Split.TEST, test),
                        **{name: facts[name] for name in ("epochs", "updates", "best_update", "seconds")},
                    }
                )
                predictions.append(test)
            means[stage] = np.stack(predictions)  # [S, N, O]
            table.append(_row(each, stage, means))
    return {"tasks": [_facts(each) for each in data], "records": records, "table": table}


def predictions_of(data: TaskData, run: TaskRun, output: Path) -> tuple[np.ndarray, np.ndarray]:
    """What a training predicts of validation and test examples, in the units of the labels: `[N, O]` each.

    Risks are calibrated by a temperature, fitted on the validation split.
    """
    found = read_predictions(run, data.task.name, output)
    labels = data.sides[Split.VALID].labels
    if data.task.kind is TaskKind.REGRESSION:
        valid, test = (each * labels.scale + labels.center for each in found.values())
    elif data.task.kind is TaskKind.MULTILABEL:
        valid, test = (expit(each.astype(float)) for each in found.values())
    else:
        known = ~np.isnan(labels.values)
        calibration = fit_calibration(found[Split.VALID][known], labels.values[known])
        valid, test = (calibration.probabilities(each) for each in found.values())
    return valid, test


def _stages(data: TaskData) -> list[Stage]:
    """The stages that a task goes through."""
    return [stage for stage in Stage if stage is not Stage.JOINT or data.task.settings.joint]


def _labels(labels: TaskLabels) -> np.ndarray:
    """As they were, not standardised: float64 `[N, O]`."""
    return labels.values.astype(float) * labels.scale + labels.center


def _figures(data: TaskData, split: Split, predictions: np.ndarray) -> dict[str, float | None]:
    labels = _labels(data.sides[split].labels)
    found = TASK_MEASURES[data.task.kind](labels, predictions, np.ones((len(labels), 1)))
    return nan_to_none({name: values[0] for name, values in found.items()})


def _row(data: TaskData, stage: Stage, predictions: dict[Stage, np.ndarray]) -> dict[str, Any]:
    kind = data.task.kind
    labels = _labels(data.sides[Split.TEST].labels)
    patients = data.task.cohort.patient_ids[data.task.cohort.split == Split.TEST.value]
    options: dict[str, Any] = {
        "replicates": TASK_REPLICATES[kind],
        "patients": patients,
        "metrics": TASK_MEASURES[kind],
    }
    row: dict[str, Any] = {
        "task": data.task.name,
        "stage": stage.value,
        "seeds": len(predictions[stage]),
        "test": {
            name: nan_to_none(interval.to_dict())
            for name, interval in bootstrap(labels, predictions[stage], **options).items()
        },
        "over_single": None,
    }
    if stage is not Stage.SINGLE:
        above = bootstrap_difference(labels, predictions[stage], predictions[Stage.SINGLE], **options)
        row["over_single"] = {name: nan_to_none(interval.to_dict()) for name, interval in above.items()}
    return row


def _facts(data: TaskData) -> dict[str, Any]:
    labels = {split.value: side.labels for split, side in data.sides.items()}
    is_of_outcome = data.task.kind in (TaskKind.BINARY, TaskKind.VISITS)
    return {
        **data.task.settings.to_dict(),
        "kind": data.task.kind.value,
        "outputs": data.labels.outputs,
        "examples": {split: len(each.values) for split, each in labels.items()},
        "known_labels": {split: int((~np.isnan(each.values)).sum()) for split, each in labels.items()},
        "test_positives": int(np.nansum(labels[Split.TEST].values)) if is_of_outcome else None,
        "labels_of_unread_visits": data.labels.skipped,
    }
