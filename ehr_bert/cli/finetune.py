"""`ehr-bert finetune`: contenders on one cohort, at several training sizes, under several seeds."""

import argparse
import sys
from pathlib import Path

from ehr_bert.cli.counts import count
from ehr_bert.cli.path_arguments import add_path
from ehr_bert.prediction.heads import HEADS

PROGRESS_LOG_SECONDS = 10.0
"""Between lines of progress in a file."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the stage's arguments."""
    add_path(parser, "--cohort", "who is predicted for, as `ehr-bert cohort` writes it")
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FOLDER",
        help="pretrained model, as `ehr-bert convert` exports it; contenders without BERT need none",
    )
    add_path(
        parser,
        "--output",
        "folder for the runs, the tables and the plots; run again, what is missing is made",
    )
    parser.add_argument("--task", metavar="NAME", help="a binary task of the cohort, where it has several")
    parser.add_argument("--head", choices=tuple(HEADS), default="mean", help="what stands on BERT")
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="NAME",
        help="contenders; all by default, and those that these need are added",
    )
    parser.add_argument(
        "--train-sizes",
        type=_sizes,
        default="all",
        metavar="N,...",
        help="training patients, as numbers or `all`; larger sizes hold the smaller",
    )
    parser.add_argument(
        "--seeds", type=count, default=1, metavar="N", help="runs of each, under seeds 1 to N"
    )
    parser.add_argument(
        "--settings", type=Path, metavar="FILE", help="how to fit, as TOML: docs/prediction.md"
    )
    parser.add_argument(
        "--processes",
        type=count,
        metavar="N",
        help="runs side by side, of one thread each; by default one a GPU, or else one a core",
    )


def run(arguments: argparse.Namespace) -> None:
    """Makes the runs, leaves the best model, then writes and prints the table."""
    from tqdm import tqdm

    from ehr_bert.cli.evaluate import write_results
    from ehr_bert.cohorts.cohort import read_cohort
    from ehr_bert.prediction.comparison.best_model import leave_model
    from ehr_bert.prediction.comparison.grid import Grid, default_processes, plan_runs, run_contenders
    from ehr_bert.prediction.contenders.contender import contender, default_contenders
    from ehr_bert.prediction.contenders.problem import Problem, binary_task
    from ehr_bert.prediction.contenders.tuning import Tuning
    from ehr_bert.prediction.optimization import Runtime

    models = arguments.models or default_contenders(arguments.head)
    runs = plan_runs(arguments.output, models, arguments.train_sizes, arguments.seeds)
    cohort = read_cohort(arguments.cohort)
    task, tuning = binary_task(cohort, arguments.task), Tuning.read(arguments.settings)
    grid = Grid(arguments.output, arguments.cohort, task, arguments.model, tuning)
    problem = Problem.of(cohort, task, arguments.model, tuning)
    problem.check(arguments.train_sizes)
    missing = [each for each in runs if not each.is_done]
    if any(contender(each.model).reads_export for each in missing):  # told before the others' hours
        problem.check_export()
    grid.begin(problem)
    processes = arguments.processes or default_processes()
    accelerator = Runtime().accelerator
    accelerator.wait_for_everyone()  # before any run is done, so that all miss the same
    with tqdm(
        desc="fine-tuning",
        total=len(runs),
        initial=len(runs) - len(missing),
        unit="run",
        dynamic_ncols=True,
        mininterval=0.1 if sys.stderr.isatty() else PROGRESS_LOG_SECONDS,
        disable=not accelerator.is_main_process,
    ) as bar:
        for done in run_contenders(grid, problem, missing, processes):
            bar.set_postfix_str(str(done), refresh=False)
            bar.update()
    left = leave_model(grid, problem, arguments.head)
    if accelerator.is_main_process:
        print(write_results(arguments.output))
        if left:
            print(f"\nThe model for `ehr-bert predict` is {left}")


def _sizes(text: str) -> list[int | None]:
    """Training sizes, all patients as None."""
    return [None if part.strip() == "all" else count(part) for part in text.split(",")]
