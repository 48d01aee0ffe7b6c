"""The task file: which labels of which cohorts are predicted, and how the models are trained."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from ehr_bert.cohorts.task_columns import TASK_TYPES
from ehr_bert.errors import UserError
from ehr_bert.prediction.optimization import FitSettings
from ehr_bert.schemas import LABEL
from ehr_bert.settings import Count, NonNegative, Settings, ValueRule
from ehr_bert.toml import BARE_KEY, read_toml

Name = Annotated[
    str, ValueRule(lambda name: bool(BARE_KEY.fullmatch(name)), "of only letters, digits, - and _")
]


@dataclass(frozen=True)
class TaskSettings(Settings):
    """Settings of one task.

    Attributes:
        name: Name of the task in tables and folders.
        cohort: Folder that `ehr-bert cohort` wrote, absolute or relative to the task file.
        column: Column of the cohort table with the labels.
        kind: Task type, a name in `TASK_TYPES`. By default it follows from the type of the column.
        joint: Whether the task takes part in the joint training. A task that does not shows how well the
            encoder transfers to a task that it was not trained on.
        min_positives: Codes of a multilabel task with fewer training examples are left out.
    """

    name: Name
    cohort: str
    column: str = LABEL
    kind: str | None = None
    joint: bool = True
    min_positives: Count = 10


@dataclass(frozen=True)
class TaskFile(Settings):
    """Tasks and the settings of their training.

    Attributes:
        tasks: The tasks, of which at least two take part in the joint training.
        power: The joint training draws a task in proportion to its number of training examples to this power:
            1 is proportional to size, 0 draws all tasks equally often.
        fit: Settings of all training runs: of each task alone, of the joint training, and of the fine-tuning
            after it.
    """

    tasks: tuple[TaskSettings, ...]
    power: NonNegative = 0.5
    fit: FitSettings = FitSettings()  # noqa: RUF009

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [task.name for task in self.tasks]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(
                "repeated-task",
                f"tasks: several are named {', '.join(repeated)}. Rename all but one.",
            )
        if sum(task.joint for task in self.tasks) < 2:
            raise UserError(
                "too-few-joint-tasks",
                "tasks: fewer than two are in the joint training. Add another task.",
            )
        for number, task in enumerate(self.tasks, 1):
            if task.kind is not None and task.kind not in TASK_TYPES:
                raise UserError(
                    "unknown-task-type",
                    f"tasks.{number}.kind: unknown task type {task.kind!r}. Choose one of "
                    f"{', '.join(TASK_TYPES)}.",
                )

    @classmethod
    def read(cls, path: Path) -> "TaskFile":
        """Read a TOML file.

        Raises:
            UserError: The file cannot be read, or a setting is missing or invalid.
        """
        values = read_toml(path)
        try:
            for number, task in enumerate(values.get("tasks", ()), 1):
                for key in ("name", "cohort"):
                    if key not in task:
                        raise UserError("missing-setting", f"tasks.{number} has no {key!r}. Add it.")
            return cls.from_dict({"tasks": ()} | values)
        except UserError as error:
            raise error.prefixed(f"{path}: ") from None
