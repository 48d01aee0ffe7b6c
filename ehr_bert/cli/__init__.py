"""The command `ehr-bert`: one subcommand a stage, each thin wiring over the library."""

import argparse
import importlib
import sys
from collections.abc import Sequence

from ehr_bert import __version__
from ehr_bert.errors import UserError, error_line
from ehr_bert.logs import Verbosity, configure_logging

COMMANDS = {
    "simulate": "make structured histories of patients who never lived",
    "extract": "take the diagnoses out of a store of health records",
    "preprocess": "turn a diagnosis table into patient sequences and a vocabulary",
    "cohort": "make a cohort for prediction: index dates, labels, and the histories up to them",
    "vocabulary": "make one vocabulary for several corpora, the small ones amplified",
    "features": "turn patient sequences into TFRecord examples",
    "pretrain": "pretrain BERT on the examples",
    "plan": "tell what a recipe takes, without training: updates, tokens, operations, memory, time",
    "bench": "pretrain by several recipes under several seeds, and compare them in a table",
    "launch": "pretrain on several machines by Slurm, or by several workers on this one",
    "ancestry": "print which trainings, on which corpora, made a model",
    "convert": "export a pretrained model to a Hugging Face folder, and prove it equal",
    "fill-mask": "print the likeliest codes at a [MASK] in a patient's history",
    "finetune": "fine-tune a model on a cohort, beside baselines, at several training sizes",
    "evaluate": "write the tables and plots of a fine-tuning again",
    "predict": "tell the risk of each patient, by a model that was fine-tuned",
    "explain": "show on a page what the risk of one patient rests on",
    "multitask": "train several tasks on one encoder, and compare with each alone",
    "embeddings": "draw a model's codes as a map, and list each code's nearest neighbours",
}
"""Name and purpose of each stage; the module `ehr_bert.cli.<name>` adds its arguments and runs it."""


def parser() -> argparse.ArgumentParser:
    """The command's arguments. Importing a stage's module is light: what it runs is imported late."""
    command = argparse.ArgumentParser(
        prog="ehr-bert",
        description="Pretrain BERT on structured health records, and predict diseases with it.",
        epilog="`ehr-bert STAGE --help` tells a stage's arguments.",
    )
    command.add_argument("--version", action="version", version=f"ehr-bert {__version__}")
    stages = command.add_subparsers(dest="stage", metavar="STAGE", required=True)
    for name, purpose in COMMANDS.items():
        stage = importlib.import_module(f"ehr_bert.cli.{name.replace('-', '_')}")
        arguments = stages.add_parser(
            name,
            help=purpose,
            description=purpose[0].upper() + purpose[1:] + ".",
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        stage.add_arguments(arguments)
        _add_verbosity(arguments)
        arguments.set_defaults(run=stage.run)
    return command


def _add_verbosity(command: argparse.ArgumentParser) -> None:
    group = command.add_mutually_exclusive_group()
    for flag, verbosity, purpose in (
        ("--quiet", Verbosity.QUIET, "report only warnings, errors and results"),
        ("--verbose", Verbosity.VERBOSE, "report details"),
    ):
        group.add_argument(
            flag,
            dest="verbosity",
            action="store_const",
            const=verbosity,
            default=Verbosity.NORMAL,
            help=purpose,
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; the exit status is 0, 1 after a fault the user can mend, 2 for bad arguments."""
    arguments = parser().parse_args(argv)
    configure_logging(arguments.verbosity)
    try:
        arguments.run(arguments)
    except (UserError, OSError) as error:
        print(f"ehr-bert {arguments.stage}: {error_line(error)}", file=sys.stderr)
        return 1
    return 0
