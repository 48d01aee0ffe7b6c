"""`ehr-bert bench`."""

import argparse
import logging
from pathlib import Path

from ehr_bert.cli.counts import count
from ehr_bert.cli.path_arguments import add_path
from ehr_bert.cli.training_arguments import add_features

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("recipes", type=Path, nargs="+", help="recipes to compare (TOML)")
    add_features(parser, "examples of all training runs, as for `ehr-bert pretrain`")
    add_path(
        parser,
        "--output",
        "folder for the training runs and the table; runs that it already contains are not repeated",
    )
    parser.add_argument(
        "--seeds",
        type=count,
        default=5,
        metavar="N",
        help="number of training runs per recipe, with seeds 1 to N",
    )


def run(arguments: argparse.Namespace) -> None:
    """Run the recipes one after another, then write and print their table."""
    from ehr_bert.files import atomic_files, locked_folder, write_json
    from ehr_bert.launching.grid import plan_trials, run_trials
    from ehr_bert.report.comparison import Comparison

    with locked_folder(arguments.output):
        trials = plan_trials(arguments.recipes, arguments.seeds, arguments.output)
        evaluations: dict[str, dict[int, dict[str, float]]] = {}
        for number, (trial, summary) in enumerate(run_trials(trials, arguments.features), 1):
            evaluation = evaluations.setdefault(trial.name, {})[trial.seed] = summary["evaluation"]
            logger.info(
                f"training run {number} of {len(trials)}: {trial.name}, seed {trial.seed}: "
                f"loss {evaluation['loss']:.4f} after {summary['seconds']:,.0f} s"
            )
            comparison = Comparison(evaluations)
            write_json(arguments.output / "results.json", comparison.to_dict())
            with atomic_files(arguments.output / "results.md") as (temporary,):
                temporary.write_text(f"{comparison}\n", encoding="utf-8")
    print(comparison)
