"""The three ways to train a task: alone, with the others, and alone after that.

    runs/single/TASK/seed-1/          the pretrained encoder, fine-tuned on the task alone
    runs/joint/seed-1/                all tasks together; `encoder/` is what is left without the heads
    runs/fine_tuned/TASK/seed-1/      that encoder, fine-tuned on the task, which may be a new one

Each folder holds `summary.json`, facts of the training, and `predictions.npz`, the logits of its tasks'
validation and test examples, in the cohort's order. It is whole or absent; a finished one isn't made again.
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
from ehr_bert.prediction.encoders import HistoryEncoder, bert_encoder
from ehr_bert.prediction.fitting import Fitted, fit_to, predict_logits
from ehr_bert.prediction.multitask.data import TaskData
from ehr_bert.prediction.multitask.joint import JointPredictor, fit_joint
from ehr_bert.prediction.multitask.labels import loss_of, score_of
from ehr_bert.prediction.multitask.tasks import TaskFile
from ehr_bert.prediction.predictor import Predictor, save_encoder
from ehr_bert.schemas import Split

PREDICTIONS_FILE = "predictions.npz"
ENCODER_FOLDER = "encoder"


class Stage(StrEnum):
    """How a model came by its task."""

    SINGLE = "single"
    JOINT = "joint"
    FINE_TUNED = "fine_tuned"


@dataclass(frozen=True)
class TaskRun:
    """One training.

    Attributes:
        stage: How.
        task: The task's name; None of the joint training.
        seed: Its seed.
    """

    stage: Stage
    task: str | None
    seed: int

    def folder(self, output: Path) -> Path:
        """Where it is kept."""
        parts = (self.stage.value, *([self.task] if self.task else []), f"seed-{self.seed}")
        return output.joinpath("runs", *parts)

    def finished(self, output: Path) -> bool:
        """Whether it was made."""
        return (self.folder(output) / SUMMARY_FILE).exists()


def runs_of(file: TaskFile, seeds: int) -> list[TaskRun]:
    """All trainings, each after those that it needs."""
    alone = [(task.name, seed) for seed in range(1, seeds + 1) for task in file.tasks]
    return [
        *(TaskRun(Stage.SINGLE, task, seed) for task, seed in alone),
        *(TaskRun(Stage.JOINT, None, seed) for seed in range(1, seeds + 1)),
        *(TaskRun(Stage.FINE_TUNED, task, seed) for task, seed in alone),
    ]


def make_run(
    run: TaskRun, file: TaskFile, data: Sequence[TaskData], model: Path, head: str, output: Path
) -> None:
    """Trains, predicts, and keeps both.

    Args:
        run: What.
        file: How.
        data: The file's tasks.
        model: The export folder of the pretrained model.
        head: The name of the heads.
        output: Where the folders of runs are.

    Raises:
        UserError: the model can't be read, or a loss is no number any more.
    """
    if run.stage is Stage.JOINT:
        chosen = [each for each in data if each.task.settings.joint]
        joint = JointPredictor(bert_encoder(model), chosen, head, run.seed)
        fitted = fit_joint(joint, chosen, file.fit, file.power, run.seed)
        predictors = {each.task.name: joint.of(number) for number, each in enumerate(chosen)}
        _keep(run, fitted, chosen, predictors, output, joint.encoder, model)
        return
    (one,) = (each for each in data if each.task.name == run.task)
    source = model
    if run.stage is Stage.FINE_TUNED:
        source = TaskRun(Stage.JOINT, None, run.seed).folder(output) / ENCODER_FOLDER
    predictor = one.predictor(bert_encoder(source), head, run.seed)
    train, valid = one.sides[Split.TRAIN], one.sides[Split.VALID]
    fitted = fit_to(
        predictor,
        train.inputs,
        loss_of(train.labels),
        valid.inputs,
        score_of(valid.labels),
        file.fit,
        run.seed,
    )
    _keep(run, fitted, [one], {one.task.name: predictor}, output)


def read_predictions(run: TaskRun, task: str, output: Path) -> dict[Split, np.ndarray]:
    """The logits of a task's validation and test examples: `[N, outputs]` each.

    Raises:
        UserError: the file is missing or damaged.
    """
    folder = run.folder(output)
    mend = f"remove {folder}, and `ehr-bert multitask` makes it again"
    try:
        arrays = read_arrays(folder / PREDICTIONS_FILE)
    except UserError as error:
        raise UserError(f"{error}: {mend}") from error
    names = {split: f"{task}.{split}" for split in (Split.VALID, Split.TEST)}
    if not arrays.keys() >= set(names.values()):
        raise UserError(f"{folder / PREDICTIONS_FILE} lacks the predictions of {task}: {mend}")
    return {split: arrays[name] for split, name in names.items()}


def _keep(
    run: TaskRun,
    fitted: Fitted,
    data: Sequence[TaskData],
    predictors: Mapping[str, Predictor],
    output: Path,
    encoder: HistoryEncoder | None = None,
    source: Path | None = None,
) -> None:
    arrays = {
        f"{each.task.name}.{split}": predict_logits(predictors[each.task.name], each.sides[split].inputs)
        for each in data
        for split in (Split.VALID, Split.TEST)
    }
    facts: dict[str, Any] = {
        "stage": run.stage.value,
        "tasks": _names(data),
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


def _names(data: Sequence[TaskData]) -> list[str]:
    return [each.task.name for each in data]
