"""All trainings of a task file, one after the other; those that are finished are not made again."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from ehr_bert import __version__
from ehr_bert.cohorts.cohort import COHORT_FOLDER
from ehr_bert.files import read_json, refuse_changed_settings, refuse_foreign_folder, write_json
from ehr_bert.prediction.comparison.grid import fingerprint
from ehr_bert.prediction.multitask.data import data_of
from ehr_bert.prediction.multitask.results import results
from ehr_bert.prediction.multitask.stages import TaskRun, make_run, runs_of
from ehr_bert.prediction.multitask.tasks import TaskFile, read_tasks
from ehr_bert.prediction.reading import ModelVocabulary
from ehr_bert.settings import differences

SETTINGS_FILE = "settings.json"
RESULTS_FILE = "results.json"


def run_tasks(
    path: Path,
    model: Path,
    output: Path,
    head: str,
    seeds: int,
    max_length: int | None = None,
    shown: Callable[[list[TaskRun]], Iterable[TaskRun]] = list,
) -> dict[str, Any] | None:
    """Trains every task alone, all together, and each alone after that; and measures.

    Args:
        path: The task file.
        model: The export folder of the pretrained model.
        output: Where all is kept; what an earlier call finished there is kept.
        head: The name of the heads.
        seeds: How often everything is trained, under the seeds 1, 2, ...
        max_length: The most tokens of a history; the model's own limit if None.
        shown: Goes through the trainings that are left, and shows how far they are.

    Returns:
        What is written to `RESULTS_FILE`; None in other processes than the first.

    Raises:
        UserError: a task, the model or a setting doesn't fit, or `output` was begun with other settings.
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
    left = [run for run in runs_of(file, seeds) if not run.finished(output)]
    processes.wait_for_everyone()
    if processes.is_main_process:
        _begin(output, settings)
    for run in shown(left) if processes.is_main_process else left:
        make_run(run, file, data, model, head, output)
    if not processes.is_main_process:
        return None
    found = {"version": __version__, "settings": settings, **results(data, seeds, output)}
    write_json(output / RESULTS_FILE, found)
    return found


def _begin(output: Path, settings: dict[str, Any]) -> None:
    """Keeps the settings beside the trainings.

    Raises:
        UserError: The folder was written with other settings (key `output-of-other-settings`), or contains
            other files (`output-not-empty`).
    """
    if (output / SETTINGS_FILE).exists():
        refuse_changed_settings(output, differences(read_json(output / SETTINGS_FILE), settings))
        return
    refuse_foreign_folder(output, "multitask", SETTINGS_FILE)
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / SETTINGS_FILE, settings)
