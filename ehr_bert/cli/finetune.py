"""`ehr-bert finetune`: fit contenders to one cohort, at several training sizes and under several seeds."""

import argparse
import logging
import sys
from contextlib import nullcontext
from pathlib import Path

from ehr_bert.cli.counts import count
from ehr_bert.cli.path_arguments import add_path
from ehr_bert.prediction.contenders.contender import CONTENDERS
from ehr_bert.prediction.heads import HEADS

logger = logging.getLogger(__name__)

PROGRESS_LOG_SECONDS = 10.0
"""Seconds between progress lines if the output is a file."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_path(parser, "--cohort", "output folder of `ehr-bert cohort`")
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FOLDER",
        help="pretrained model: export folder of `ehr-bert convert`; not needed without BERT contenders",
    )
    add_path(
        parser,
        "--output",
        "folder for the runs, tables and plots; an interrupted comparison in it is resumed",
    )
    parser.add_argument(
        "--task", metavar="NAME", help="binary task of the cohort; needed if the cohort has several"
    )
    parser.add_argument(
        "--head", choices=tuple(HEADS), default="mean", help="prediction head of the BERT contenders"
    )
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="NAME",
        help=f"contenders to compare, with those that they need, from {', '.join(CONTENDERS)}; "
        "by default all, where HEAD is the value of --head",
    )
    parser.add_argument(
        "--train-sizes",
        type=_sizes,
        default="all",
        metavar="N,...",
        help="numbers of training patients, or `all`; larger subsets contain the smaller ones",
    )
    parser.add_argument(
        "--seeds",
        type=count,
        default=1,
        metavar="N",
        help="number of runs per contender, with seeds 1 to N",
    )
    parser.add_argument(
        "--settings",
        type=Path,
        metavar="FILE",
        help="TOML file with settings of the fits (docs/prediction.md)",
    )
    parser.add_argument(
        "--processes",
        type=count,
        metavar="N",
        help="number of runs at a time, with one thread each; by default one per GPU, else one per core",
    )


def run(arguments: argparse.Namespace) -> None:
    """Make the runs, save the best model, and write and print the results."""
    from tqdm import tqdm

    from ehr_bert.cli.evaluate import write_results
    from ehr_bert.cohorts.cohort import read_cohort
    from ehr_bert.files import locked_folder
    from ehr_bert.prediction.comparison.best_model import save_best_model
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
    problem.check_sizes(arguments.train_sizes)
    missing = [run for run in runs if not run.is_finished]
    # An unreadable export is reported now instead of after hours of other runs.
    if any(contender(run.model).reads_export for run in missing):
        problem.check_export()
    accelerator = Runtime().accelerator
    with locked_folder(arguments.output) if accelerator.is_main_process else nullcontext():
        grid.start(problem)
        processes = arguments.processes or default_processes()
        # All processes must list the missing runs before the first one finishes.
        accelerator.wait_for_everyone()
        with tqdm(
            desc="fine-tuning",
            total=len(runs),
            initial=len(runs) - len(missing),
            unit="run",
            dynamic_ncols=True,
            mininterval=0.1 if sys.stderr.isatty() else PROGRESS_LOG_SECONDS,
            disable=not (accelerator.is_main_process and logger.isEnabledFor(logging.INFO)),
        ) as bar:
            for finished_run in run_contenders(grid, problem, missing, processes):
                bar.set_postfix_str(str(finished_run), refresh=False)
                bar.update()
        model_folder = save_best_model(grid, problem, arguments.head)
        if accelerator.is_main_process:
            print(write_results(arguments.output))
            if model_folder:
                print(f"\nModel for `ehr-bert predict`: {model_folder}")


def _sizes(text: str) -> list[int | None]:
    """Parse training sizes. `all` becomes None."""
    return [None if part.strip() == "all" else count(part) for part in text.split(",")]
