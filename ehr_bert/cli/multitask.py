"""`ehr-bert multitask`."""

import argparse
from pathlib import Path

from ehr_bert.cli.counts import count
from ehr_bert.cli.path_arguments import add_path
from ehr_bert.prediction.heads import HEADS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the stage's arguments."""
    parser.add_argument("tasks", type=Path, help="the tasks and how they are trained, as TOML")
    add_path(parser, "--model", "pretrained model, as `ehr-bert convert` exports it")
    add_path(
        parser, "--output", "where trainings and results are kept; called again, it goes on with what is left"
    )
    parser.add_argument(
        "--head", choices=tuple(HEADS), default="mean", help="what stands on BERT, but for labels by visit"
    )
    parser.add_argument(
        "--seeds", type=count, default=3, metavar="N", help="times that all is trained, under seeds 1 to N"
    )
    parser.add_argument(
        "--max-length",
        type=count,
        metavar="N",
        help="most tokens of a history, its latest visits; the model's limit if not stated",
    )


def run(arguments: argparse.Namespace) -> None:
    """Trains, writes results.json and results.md, and prints the latter."""
    from collections.abc import Iterator

    from tqdm import tqdm

    from ehr_bert.files import atomic_files
    from ehr_bert.prediction.multitask.running import run_tasks
    from ehr_bert.prediction.multitask.stages import TaskRun
    from ehr_bert.report.multitask_table import multitask_report

    def shown(runs: list[TaskRun]) -> Iterator[TaskRun]:
        with tqdm(runs, unit="training", dynamic_ncols=True, disable=not runs) as bar:
            for each in bar:
                bar.set_description(" ".join(filter(None, (each.stage, each.task, f"seed {each.seed}"))))
                yield each

    results = run_tasks(
        arguments.tasks,
        arguments.model,
        arguments.output,
        arguments.head,
        arguments.seeds,
        arguments.max_length,
        shown,
    )
    if results is None:  # Another of several processes tells them.
        return
    text = multitask_report(results)
    with atomic_files(arguments.output / "results.md") as (temporary,):
        temporary.write_text(text, encoding="utf-8")
    print(text)
