"""The task file: which labels of which cohorts are predicted, and how they are trained."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pyarrow.compute as pc

from ehr_bert.cohorts.cohort import Cohort, read_cohort
from ehr_bert.errors import UserError
from ehr_bert.prediction.optimization import FitSettings
from ehr_bert.schemas import LABEL, Split, TaskKind
from ehr_bert.settings import Count, NonNegative, Settings, ValueRule
from ehr_bert.toml import BARE_KEY, read_toml

Name = Annotated[
    str, ValueRule(lambda name: bool(BARE_KEY.fullmatch(name)), "of letters, digits, - and _ alone")
]


@dataclass(frozen=True)
class TaskSettings(Settings):
    """One task of the file.

    Attributes:
        name: How it is called, in the table and in folders' names.
        cohort: The folder that `ehr-bert cohort` wrote; a relative one is looked for beside the file.
        column: The cohort's column with the labels.
        kind: What the column holds; stated, it is checked.
        joint: Whether the task takes part in the joint training. One that doesn't shows what the encoder
            brings to a task that it wasn't trained on.
        min_positives: Codes of a multilabel task that fewer training examples have are left out.
    """

    name: Name
    cohort: str
    column: str = LABEL
    kind: Literal["binary", "multilabel", "regression", "visits"] | None = None
    joint: bool = True
    min_positives: Count = 10


@dataclass(frozen=True)
class TaskFile(Settings):
    """Tasks, and how they are trained.

    Attributes:
        tasks: At least two of them in the joint training.
        power: In the joint training a task is drawn in proportion to its training examples to this power:
            1 is in proportion to size, 0 each as often as the others.
        fit: Of all trainings: of each task alone, of all together, and of each after that.
    """

    tasks: tuple[TaskSettings, ...]
    power: NonNegative = 0.5
    fit: FitSettings = FitSettings()  # noqa: RUF009

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [task.name for task in self.tasks]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(f"tasks: {', '.join(twice)} is the name of several: give each its own")
        if sum(task.joint for task in self.tasks) < 2:
            raise UserError("tasks: fewer than two take part in the joint training: name two or more")

    @classmethod
    def read(cls, path: Path) -> "TaskFile":
        """The tasks of a TOML file.

        Raises:
            UserError: the file can't be read, or a setting doesn't fit.
        """
        values = read_toml(path)
        try:
            for number, task in enumerate(values.get("tasks", ()), 1):
                for key in ("name", "cohort"):
                    if key not in task:
                        raise UserError(f"tasks.{number} lacks the key {key!r}")
            return cls.from_dict({"tasks": ()} | values)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None


@dataclass(frozen=True)
class PredictionTask:
    """A task with its examples.

    Attributes:
        settings: What the file says of it.
        kind: What it predicts.
        cohort: The examples whose label is known.
    """

    settings: TaskSettings
    kind: TaskKind
    cohort: Cohort

    @property
    def name(self) -> str:
        """How it is called."""
        return self.settings.name


def read_tasks(file: TaskFile, folder: Path) -> list[PredictionTask]:
    """The tasks with their examples.

    Args:
        file: Names them.
        folder: Where relative paths begin: the file's.

    Raises:
        UserError: a cohort, its column or the examples of a split are missing, the column is of another kind,
            or patients are on different sides in different tasks.
    """
    cohorts: dict[Path, Cohort] = {}
    for each in file.tasks:
        path = folder / each.cohort
        if path not in cohorts:
            cohorts[path] = read_cohort(path)
    tasks = [_task(each, cohorts[folder / each.cohort]) for each in file.tasks]
    check_splits({str(path): cohort for path, cohort in cohorts.items()})
    return tasks


def check_splits(cohorts: dict[str, Cohort]) -> None:
    """Makes sure that nobody whom one task is tested on is trained on by another.

    Args:
        cohorts: By what the user calls them.

    Raises:
        UserError: patients are in several splits. It tells how many, and in which cohorts.
    """
    each = list(cohorts.values())
    patients, place = np.unique(np.concatenate([it.patient_ids for it in each]), return_inverse=True)
    split = np.unique(np.concatenate([it.split for it in each]), return_inverse=True)[1]
    sides = np.zeros((len(patients), len(Split)), bool)
    sides[place, split] = True
    crossing = (sides.sum(axis=1) > 1)[place]  # of each example
    if not crossing.any():
        return
    example = np.repeat(np.arange(len(each)), [len(it) for it in each])
    among = [name for number, name in enumerate(cohorts) if crossing[example == number].any()]
    raise UserError(
        f"{(sides.sum(axis=1) > 1).sum():,} patients are in different splits of {', '.join(among)}: make "
        "these cohorts with the same --seed, or from the same preprocessed data"
    )


def _task(settings: TaskSettings, cohort: Cohort) -> PredictionTask:
    where = f"the task {settings.name}: {settings.cohort}"
    if settings.column not in cohort.tasks:
        columns = ", ".join(cohort.tasks) or "none"
        raise UserError(f"{where} has no column of labels {settings.column!r}: its columns are {columns}")
    kind = cohort.kind(settings.column)
    if settings.kind not in (None, kind.value):
        raise UserError(f"{where}: the column {settings.column} is {kind}, not {settings.kind}")
    known = pc.is_valid(cohort.tasks[settings.column]).to_numpy(zero_copy_only=False)
    cohort = cohort.take(known)
    for split in Split:
        if not (cohort.split == split.value).any():
            raise UserError(f"{where} has no {split} examples whose {settings.column} is known")
    return PredictionTask(settings, kind, cohort)
