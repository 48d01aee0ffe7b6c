"""`ehr-bert multitask`: train several tasks on one encoder, and compare with separate training."""

import argparse
import logging
from pathlib import Path

from ehr_bert.cli.counts import count
from ehr_bert.cli.path_arguments import add_path
from ehr_bert.prediction.heads import HEADS

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("tasks", type=Path, help="TOML file with the tasks and their training settings")
    add_path(parser, "--model", "pretrained model, as exported by `ehr-bert convert`")
    add_path(
        parser,
        "--output",
        "folder for the training runs and results; runs that it already contains are not repeated",
    )
    parser.add_argument(
        "--head", choices=tuple(HEADS), default="mean", help="prediction head, except for labels per visit"
    )
    parser.add_argument(
        "--seeds",
        type=count,
        default=3,
        metavar="N",
        help="number of training runs per stage and task, with seeds 1 to N",
    )
    parser.add_argument(
        "--max-length",
        type=count,
        metavar="N",
        help="maximum number of tokens of a history; the latest visits are kept (default: the limit of the "
        "model)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Train, write results.json and results.md, and print the tables."""
    from collections.abc import Iterator

    from tqdm import tqdm

    from ehr_bert.files import atomic_files
    from ehr_bert.prediction.multitask.running import run_tasks
    from ehr_bert.prediction.multitask.stages import TaskRun
    from ehr_bert.report.multitask_table import multitask_report
    from ehr_bert.report.prediction_report import RESULTS_TEXT

    def progress(runs: list[TaskRun]) -> Iterator[TaskRun]:
        is_hidden = not runs or not logger.isEnabledFor(logging.INFO)
        with tqdm(runs, unit="run", dynamic_ncols=True, disable=is_hidden) as bar:
            for task_run in bar:
                parts = (task_run.stage, task_run.task, f"seed {task_run.seed}")
                bar.set_description(" ".join(filter(None, parts)))
                yield task_run

    results = run_tasks(
        arguments.tasks,
        arguments.model,
        arguments.output,
        arguments.head,
        arguments.seeds,
        arguments.max_length,
        progress,
    )
    if results is None:  # the first process prints them
        return
    text = multitask_report(results)
    with atomic_files(arguments.output / RESULTS_TEXT) as (temporary,):
        temporary.write_text(text, encoding="utf-8")
    print(text)
