"""The tasks of a task file with their examples."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from ehr_bert.cohorts.cohort import Cohort, read_cohort
from ehr_bert.errors import UserError
from ehr_bert.prediction.multitask.task_file import TaskFile, TaskSettings
from ehr_bert.prediction.multitask.task_type import TaskType, task_type
from ehr_bert.schemas import Split


@dataclass(frozen=True)
class PredictionTask:
    """A task with its examples.

    Attributes:
        settings: Settings of the task.
        type: Task type.
        cohort: Examples whose label is known.
    """

    settings: TaskSettings
    type: TaskType
    cohort: Cohort

    @property
    def name(self) -> str:
        """Name of the task."""
        return self.settings.name


def read_tasks(file: TaskFile, folder: Path) -> list[PredictionTask]:
    """Read the examples of all tasks.

    Args:
        file: The tasks.
        folder: Folder of the task file, which relative paths start from.

    Raises:
        UserError: A cohort cannot be read, a column is missing (key `unknown-column`) or of another type
            (`wrong-task-type`), a setting has no effect (`setting-without-effect`), a split has no examples
            (`empty-split`), or patients are in several splits (`patients-in-two-splits`).
    """
    cohorts: dict[Path, Cohort] = {}
    for settings in file.tasks:
        path = folder / settings.cohort
        if path not in cohorts:
            cohorts[path] = read_cohort(path)
    tasks = [_task(settings, cohorts[folder / settings.cohort]) for settings in file.tasks]
    check_splits({str(path): cohort for path, cohort in cohorts.items()})
    return tasks


def check_splits(cohorts: Mapping[str, Cohort]) -> None:
    """Check that no test patient of one task is a training patient of another.

    Args:
        cohorts: Cohorts by the name that the user gave.

    Raises:
        UserError: Patients are in several splits (key `patients-in-two-splits`).
    """
    all_ids = np.concatenate([cohort.patient_ids for cohort in cohorts.values()])
    patients, patient = np.unique(all_ids, return_inverse=True)
    all_splits = np.concatenate([cohort.split for cohort in cohorts.values()])
    split = np.unique(all_splits, return_inverse=True)[1]
    is_in_split = np.zeros((len(patients), len(Split)), bool)
    is_in_split[patient, split] = True
    is_crossing = is_in_split.sum(axis=1) > 1  # of each patient
    if not is_crossing.any():
        return
    cohort_number = np.repeat(np.arange(len(cohorts)), [len(cohort) for cohort in cohorts.values()])
    crossing_cohorts = set(cohort_number[is_crossing[patient]])
    names = [name for number, name in enumerate(cohorts) if number in crossing_cohorts]
    raise UserError(
        "patients-in-two-splits",
        f"{is_crossing.sum():,} patients are in different splits of {', '.join(names)}. Make these cohorts "
        "with the same --seed, or from the same preprocessed data.",
    )


def _task(settings: TaskSettings, cohort: Cohort) -> PredictionTask:
    where = f"task {settings.name}: {settings.cohort}"
    if settings.column not in cohort.tasks:
        columns = ", ".join(cohort.tasks) or "none"
        raise UserError(
            "unknown-column", f"{where} has no label column {settings.column!r}. Choose one of: {columns}."
        )
    kind = settings.kind or cohort.kind(settings.column)
    type_ = task_type(kind)
    if cohort.tasks[settings.column].type != type_.column_type:
        raise UserError(
            "wrong-task-type",
            f"{where}: the column {settings.column} is {cohort.kind(settings.column)}, not {kind}. "
            "Remove the kind or choose another column.",
        )
    if settings.min_positives != TaskSettings.min_positives and not type_.uses_min_positives:
        raise UserError(
            "setting-without-effect",
            f"task {settings.name}: min_positives has no effect on a {kind} task. Remove it.",
        )
    known = pc.is_valid(cohort.tasks[settings.column]).to_numpy(zero_copy_only=False)
    cohort = cohort.take(known)
    for split in Split:
        if not (cohort.split == split.value).any():
            raise UserError(
                "empty-split",
                f"{where} has no {split} examples with a known {settings.column}. Choose a larger cohort.",
            )
    return PredictionTask(settings, type_, cohort)
