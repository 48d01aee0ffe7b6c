"""`ehr-bert launch`."""

import argparse
from pathlib import Path

from ehr_bert.cli.counts import count
from ehr_bert.cli.path_arguments import add_path
from ehr_bert.cli.training_arguments import add_features


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("recipe", type=Path, help="recipe with the settings of the training run (TOML)")
    add_features(parser, "examples, as for `ehr-bert pretrain`")
    add_path(
        parser,
        "--output",
        "training folder on a disk shared by all workers; a training run in it is resumed",
    )
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--slurm", action="store_true", help="submit a Slurm job with one worker per node")
    target.add_argument("--local", type=count, metavar="N", help="run N workers on this machine")
    parser.add_argument(
        "--gpus-per-node",
        type=count,
        default=0,
        metavar="N",
        help="GPUs per node or per local worker; 0: use the CPU",
    )
    slurm = parser.add_argument_group("Slurm")
    slurm.add_argument("--nodes", type=count, default=1, metavar="N", help="number of nodes")
    slurm.add_argument(
        "--sbatch",
        action="append",
        default=[],
        metavar="OPTION",
        help="option for sbatch, such as --sbatch=--partition=gpu; can be repeated",
    )
    slurm.add_argument("--dry-run", action="store_true", help="print the script without submitting it")


def run(arguments: argparse.Namespace) -> None:
    """Submit or print the job, or run local workers until they end."""
    from ehr_bert.launching.command import pretrain_command
    from ehr_bert.launching.local import run_workers
    from ehr_bert.launching.slurm import batch_script, submit
    from ehr_bert.training.recipe import Recipe

    Recipe.read(arguments.recipe)  # report an invalid recipe now rather than in the queue
    command = pretrain_command(arguments.recipe, arguments.features, arguments.output)
    if arguments.slurm:
        script = batch_script(command, arguments.nodes, arguments.gpus_per_node, arguments.sbatch)
        print(script if arguments.dry_run else submit(script), end="" if arguments.dry_run else "\n")
    elif status := run_workers(command, arguments.local, arguments.gpus_per_node):
        raise SystemExit(status)
