"""`ehr-bert launch`."""

import argparse
from pathlib import Path

from ehr_bert.cli.counts import count
from ehr_bert.cli.path_arguments import add_path
from ehr_bert.cli.training_arguments import add_features


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the stage's arguments."""
    parser.add_argument("recipe", type=Path, help="how to train, as TOML")
    add_features(parser, "as `ehr-bert pretrain` takes them")
    add_path(
        parser,
        "--output",
        "training folder, on a disk that all workers see; launched again, the training goes on",
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--slurm", action="store_true", help="as a job of Slurm, with a worker on each node")
    where.add_argument("--local", type=count, metavar="N", help="as N workers on this machine")
    parser.add_argument(
        "--gpus-per-node",
        type=count,
        default=0,
        metavar="N",
        help="GPUs of each node, or of each local worker; 0: they compute on CPUs",
    )
    slurm = parser.add_argument_group("Slurm")
    slurm.add_argument("--nodes", type=count, default=1, metavar="N", help="nodes to train on")
    slurm.add_argument(
        "--sbatch",
        action="append",
        default=[],
        metavar="OPTION",
        help="an option of sbatch, such as --sbatch=--partition=gpu; may be given several times",
    )
    slurm.add_argument("--dry-run", action="store_true", help="print the script, and submit nothing")


def run(arguments: argparse.Namespace) -> None:
    """Prints the job's script, submits it, or trains here until the workers end."""
    from ehr_bert.launching.command import pretrain_command
    from ehr_bert.launching.local import run_workers
    from ehr_bert.launching.slurm import batch_script, submit
    from ehr_bert.training.recipe import Recipe

    Recipe.read(arguments.recipe)  # better a fault now than in the queue
    command = pretrain_command(arguments.recipe, arguments.features, arguments.output)
    if arguments.slurm:
        script = batch_script(command, arguments.nodes, arguments.gpus_per_node, arguments.sbatch)
        print(script if arguments.dry_run else submit(script), end="" if arguments.dry_run else "\n")
    elif status := run_workers(command, arguments.local, arguments.gpus_per_node):
        raise SystemExit(status)
