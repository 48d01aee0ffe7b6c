"""The three stages of training a task: alone, jointly with the others, and fine-tuned after that.

    runs/single/TASK/seed-1/          the pretrained encoder, fine-tuned on one task
    runs/joint/seed-1/                all tasks together; `encoder/` is the encoder without the heads
    runs/fine_tuned/TASK/seed-1/      that encoder, fine-tuned on one task, which may be a new one

Each folder contains `summary.json`, facts of the training run, and `predictions.npz`, the logits of the
validation and test examples of its tasks in the order of the cohort. Folders are written atomically, and a
finished training run is not repeated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator

from ehr_bert.errors import UserError
from ehr_bert.files import SUMMARY_FILE, atomic_folder, write_json
from ehr_bert.prediction.arrays import read_arrays
from ehr_bert.prediction.comparison.runs import PREDICTIONS_FILE
from ehr_bert.prediction.encoders import HistoryEncoder, bert_encoder
from ehr_bert.prediction.fitting import FitResult, fit_to, predict_logits
from ehr_bert.prediction.multitask.data import TaskData
from ehr_bert.prediction.multitask.joint import JointPredictor, fit_joint
from ehr_bert.prediction.multitask.losses import loss_of, score_of
from ehr_bert.prediction.multitask.task_file import TaskFile
from ehr_bert.prediction.predictor import Predictor, save_encoder
from ehr_bert.schemas import Split

ENCODER_FOLDER = "encoder"
"""Folder of the jointly trained encoder."""


class Stage(StrEnum):
    """A stage of training a task."""

    SINGLE = "single"
    JOINT = "joint"
    FINE_TUNED = "fine_tuned"


@dataclass(frozen=True)
class TaskRun:
    """One training run.

    Attributes:
        stage: Stage of the training run.
        task: Name of the task; None for the joint training.
        seed: Random seed.
    """

    stage: Stage
    task: str | None
    seed: int

    def folder(self, output: Path) -> Path:
        """Return the folder of the training run."""
        parts = (self.stage.value, *([self.task] if self.task else []), f"seed-{self.seed}")
        return output.joinpath("runs", *parts)

    def is_finished(self, output: Path) -> bool:
        """Return whether the training run is finished."""
        return (self.folder(output) / SUMMARY_FILE).exists()


def runs_of(file: TaskFile, seeds: int) -> list[TaskRun]:
    """Return all training runs, each after those that it needs."""
    task_seeds = [(task.name, seed) for seed in range(1, seeds + 1) for task in file.tasks]
    return [
        *(TaskRun(Stage.SINGLE, task, seed) for task, seed in task_seeds),
        *(TaskRun(Stage.JOINT, None, seed) for seed in range(1, seeds + 1)),
        *(TaskRun(Stage.FINE_TUNED, task, seed) for task, seed in task_seeds),
    ]


def make_run(
    run: TaskRun, file: TaskFile, data: Sequence[TaskData], model: Path, head: str, output: Path
) -> None:
    """Train a model, predict with it, and write its folder.

    Args:
        run: The training run.
        file: The tasks and the settings of their training.
        data: Tasks of the file.
        model: Export folder of the pretrained model.
        head: Name of the heads.
        output: Output folder of all training runs.

    Raises:
        UserError: The model cannot be read, or the loss is not finite (key `loss-not-finite`).
    """
    if run.stage is Stage.JOINT:
        joint_data = [task_data for task_data in data if task_data.task.settings.joint]
        joint = JointPredictor(bert_encoder(model), joint_data, head, run.seed)
        fitted = fit_joint(joint, joint_data, file.fit, file.power, run.seed)
        predictors = {task_data.task.name: joint.of(number) for number, task_data in enumerate(joint_data)}
        _write_run(run, fitted, joint_data, predictors, output, joint.encoder, model)
        return
    (task_data,) = (task_data for task_data in data if task_data.task.name == run.task)
    source = model
    if run.stage is Stage.FINE_TUNED:
        source = TaskRun(Stage.JOINT, None, run.seed).folder(output) / ENCODER_FOLDER
    predictor = task_data.predictor(bert_encoder(source), head, run.seed)
    train, valid = task_data.splits[Split.TRAIN], task_data.splits[Split.VALID]
    fitted = fit_to(
        predictor,
        train.inputs,
        loss_of(train.labels),
        valid.inputs,
        score_of(valid.labels),
        file.fit,
        run.seed,
    )
    _write_run(run, fitted, [task_data], {task_data.task.name: predictor}, output)


def read_task_logits(run: TaskRun, task: str, output: Path) -> dict[Split, np.ndarray]:
    """Return the logits of a task's validation and test examples: `[N, O]` each.

    Raises:
        UserError: The file is missing or damaged (key `damaged-run`).
    """
    folder = run.folder(output)
    names = {split: f"{task}.{split}" for split in (Split.VALID, Split.TEST)}
    try:
        arrays = read_arrays(folder / PREDICTIONS_FILE)
    except UserError as error:
        raise _damaged(folder) from error
    if not arrays.keys() >= set(names.values()):
        raise _damaged(folder)
    return {split: arrays[name] for split, name in names.items()}


def _damaged(folder: Path) -> UserError:
    return UserError(
        "damaged-run",
        f"{folder / PREDICTIONS_FILE} is missing or damaged. Remove {folder} and run `ehr-bert multitask` "
        "again.",
    )


def _write_run(
    run: TaskRun,
    fitted: FitResult,
    data: Sequence[TaskData],
    predictors: Mapping[str, Predictor],
    output: Path,
    encoder: HistoryEncoder | None = None,
    source: Path | None = None,
) -> None:
    arrays = {
        f"{task_data.task.name}.{split}": predict_logits(
            predictors[task_data.task.name], task_data.splits[split].inputs
        )
        for task_data in data
        for split in (Split.VALID, Split.TEST)
    }
    facts: dict[str, Any] = {
        "stage": run.stage.value,
        "tasks": [task_data.task.name for task_data in data],
        "seed": run.seed,
        "epochs": fitted.epochs,
        "updates": fitted.updates,
        "best_update": fitted.best_update,
        "valid": fitted.valid,
        "seconds": fitted.seconds,
    }
    processes = Accelerator()
    if processes.is_main_process:
        with atomic_folder(run.folder(output), "multitask") as temporary:
            np.savez(temporary / PREDICTIONS_FILE, allow_pickle=False, **arrays)
            if encoder is not None and source is not None:
                save_encoder(temporary / ENCODER_FOLDER, encoder, source)
            write_json(temporary / SUMMARY_FILE, facts)
    processes.wait_for_everyone()
