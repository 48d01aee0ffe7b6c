"""All training runs of a task file. Finished training runs are not repeated."""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from ehr_bert import __version__
from ehr_bert.cohorts.cohort import COHORT_FOLDER
from ehr_bert.files import (
    locked_folder,
    read_json,
    refuse_changed_settings,
    refuse_foreign_folder,
    write_json,
)
from ehr_bert.prediction.comparison.grid import fingerprint
from ehr_bert.prediction.comparison.results import RESULTS_FILE
from ehr_bert.prediction.multitask.data import data_of
from ehr_bert.prediction.multitask.results import multitask_results
from ehr_bert.prediction.multitask.stages import TaskRun, make_run, runs_of
from ehr_bert.prediction.multitask.task_file import TaskFile
from ehr_bert.prediction.multitask.tasks import read_tasks
from ehr_bert.prediction.reading import ModelVocabulary
from ehr_bert.settings import differences

SETTINGS_FILE = "settings.json"
"""Settings that all training runs of a folder share."""


def run_tasks(
    path: Path,
    model: Path,
    output: Path,
    head: str,
    seeds: int,
    max_length: int | None = None,
    progress: Callable[[list[TaskRun]], Iterable[TaskRun]] = list,
) -> dict[str, Any] | None:
    """Train every task alone, all tasks together, and each task after that; then evaluate.

    Args:
        path: The task file.
        model: Export folder of the pretrained model.
        output: Output folder. Training runs that an earlier call finished are kept.
        head: Name of the heads.
        seeds: Number of times that everything is trained, with the seeds 1, 2, ...
        max_length: Maximum number of tokens of a history, by default the model's limit.
        progress: Iterates over the training runs that are left, for example with a progress bar.

    Returns:
        The content of `RESULTS_FILE`; None in all processes but the first.

    Raises:
        UserError: A task, the model or a setting is invalid, or the folder was written with other settings
            (key `output-of-other-settings`), or another process writes to it (`output-in-use`).
    """
    file = TaskFile.read(path)
    data = data_of(read_tasks(file, path.parent), ModelVocabulary.of_folder(model), max_length)
    settings = {
        **file.to_dict(),
        "model": fingerprint(model, ("config.json", "vocab.json", "*.safetensors")),
        "cohorts": {
            task.cohort: fingerprint(path.parent / task.cohort / COHORT_FOLDER, ("*.parquet",))
            for task in file.tasks
        },
        "head": head,
        "max_length": max_length,
    }
    processes = Accelerator()
    left = [run for run in runs_of(file, seeds) if not run.is_finished(output)]
    processes.wait_for_everyone()
    with locked_folder(output) if processes.is_main_process else nullcontext():
        if processes.is_main_process:
            _start(output, settings)
        for run in progress(left) if processes.is_main_process else left:
            make_run(run, file, data, model, head, output)
        if not processes.is_main_process:
            return None
        content = {"version": __version__, "settings": settings, **multitask_results(data, seeds, output)}
        write_json(output / RESULTS_FILE, content)
        return content


def _start(output: Path, settings: dict[str, Any]) -> None:
    """Write the settings to a new folder, or compare them with those of an existing one.

    Raises:
        UserError: The folder was written with other settings (key `output-of-other-settings`), or contains
            other files (`output-not-empty`).
    """
    if (output / SETTINGS_FILE).exists():
        recorded = read_json(output / SETTINGS_FILE)
        recorded.get("fit", {}).pop("frozen", None)  # recorded before version 0.2, and always false
        refuse_changed_settings(output, differences(recorded, settings))
        return
    refuse_foreign_folder(output, "multitask", SETTINGS_FILE)
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / SETTINGS_FILE, settings)
