"""Results of the stages: metrics of every training run, and a table with confidence intervals."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ehr_bert.files import SUMMARY_FILE, nan_to_none, read_json
from ehr_bert.metrics.bootstrap import bootstrap, bootstrap_difference
from ehr_bert.prediction.multitask.data import TaskData
from ehr_bert.prediction.multitask.stages import Stage, TaskRun, read_task_logits
from ehr_bert.schemas import Split


def multitask_results(data: Sequence[TaskData], seeds: int, output: Path) -> dict[str, Any]:
    """Return the results of all training runs.

    Args:
        data: The tasks.
        seeds: Number of seeds of each training run.
        output: Folder of the finished training runs.

    Returns:
        Values for JSON. `tasks` describes the examples of each task, and `records` has the metrics of each
        training run. `table` has the metrics of each stage, averaged over seeds, with intervals over test
        patients, and their differences from the task alone. Undefined values are None.
    """
    records, table = [], []
    for task_data in data:
        by_stage: dict[Stage, np.ndarray] = {}
        for stage in _stages(task_data):
            by_seed = []
            for seed in range(1, seeds + 1):
                run = TaskRun(stage, None if stage is Stage.JOINT else task_data.task.name, seed)
                predictions = predictions_of(task_data, run, output)
                facts = read_json(run.folder(output) / SUMMARY_FILE)
                records.append(
                    {
                        "task": task_data.task.name,
                        "stage": stage.value,
                        "seed": seed,
                        "valid": _metrics(task_data, Split.VALID, predictions[Split.VALID]),
                        "test": _metrics(task_data, Split.TEST, predictions[Split.TEST]),
                        **{key: facts[key] for key in ("epochs", "updates", "best_update", "seconds")},
                    }
                )
                by_seed.append(predictions[Split.TEST])
            by_stage[stage] = np.stack(by_seed)  # [seeds, N, O]
            table.append(_table_row(task_data, stage, by_stage))
    return {"tasks": [_facts(task_data) for task_data in data], "records": records, "table": table}


def predictions_of(data: TaskData, run: TaskRun, output: Path) -> dict[Split, np.ndarray]:
    """Return the predictions of a training run in the units of the labels: `[N, O]` per split.

    The splits are validation and test. Risks are calibrated on the validation split.
    """
    logits = read_task_logits(run, data.task.name, output)
    return data.task.type.predictions(logits, data.splits[Split.VALID].labels)


def _stages(data: TaskData) -> list[Stage]:
    """Return the stages in which a task is trained."""
    return [stage for stage in Stage if stage is not Stage.JOINT or data.task.settings.joint]


def _metrics(data: TaskData, split: Split, predictions: np.ndarray) -> dict[str, float | None]:
    labels = data.splits[split].labels.in_units()
    values = data.task.type.metrics(labels, predictions, np.ones((len(labels), 1)))
    return nan_to_none({key: replicates[0] for key, replicates in values.items()})


def _table_row(data: TaskData, stage: Stage, by_stage: dict[Stage, np.ndarray]) -> dict[str, Any]:
    labels = data.splits[Split.TEST].labels.in_units()
    options: dict[str, Any] = {
        "replicates": data.task.type.replicates,
        "patients": data.task.cohort.patient_ids[data.task.cohort.split == Split.TEST.value],
        "metrics": data.task.type.metrics,
    }
    row: dict[str, Any] = {
        "task": data.task.name,
        "stage": stage.value,
        "seeds": len(by_stage[stage]),
        "test": {
            key: nan_to_none(interval.to_dict())
            for key, interval in bootstrap(labels, by_stage[stage], **options).items()
        },
        "over_single": None,
    }
    if stage is not Stage.SINGLE:
        differences = bootstrap_difference(labels, by_stage[stage], by_stage[Stage.SINGLE], **options)
        row["over_single"] = {key: nan_to_none(interval.to_dict()) for key, interval in differences.items()}
    return row


def _facts(data: TaskData) -> dict[str, Any]:
    labels = {split.value: examples.labels for split, examples in data.splits.items()}
    test_labels = data.splits[Split.TEST].labels.values
    return {
        **data.task.settings.to_dict(),
        "kind": data.task.type.name,
        "outputs": data.labels.outputs,
        "examples": {split: len(of_split.values) for split, of_split in labels.items()},
        "known_labels": {split: int(of_split.is_known.sum()) for split, of_split in labels.items()},
        "test_positives": int(np.nansum(test_labels)) if data.task.type.has_cases else None,
        "labels_of_unread_visits": data.labels.skipped,
    }
