"""The program `ehr-bert`. Each module `ehr_bert.cli.<command>` defines and runs one command."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from types import ModuleType

from ehr_bert import __version__
from ehr_bert.logs import Verbosity, configure_logging
from ehr_bert.programs import exit_status

COMMAND_GROUPS = {
    "Data": {
        "simulate": "Create records of synthetic patients with known risks",
        "extract": "Extract the diagnoses from a store of health records",
        "preprocess": "Convert a diagnosis table to patient sequences and a vocabulary",
        "cohort": "Build a cohort for prediction: index dates, labels, and the histories before them",
        "vocabulary": "Merge the vocabularies of several corpora, with one weight per corpus",
        "features": "Convert patient sequences to TFRecord examples",
    },
    "Pretraining": {
        "pretrain": "Pretrain BERT on the examples",
        "plan": "Estimate the updates, tokens, operations, memory and time of a recipe without training",
        "bench": "Pretrain several recipes under several seeds, and compare them in a table",
        "launch": "Pretrain on several machines with Slurm, or with several workers on this machine",
        "ancestry": "Print the training runs and corpora that a model comes from",
        "convert": "Export a pretrained model to a Hugging Face folder, and verify that it computes the same",
        "fill-mask": "Print the most probable codes at a [MASK] in a patient's history",
    },
    "Prediction": {
        "finetune": "Fine-tune a model on a cohort, and compare it with baselines at several training sizes",
        "evaluate": "Write the tables and plots of a comparison again from its finished runs",
        "predict": "Predict each patient's risk with a fine-tuned model",
        "explain": "Write a page that explains the predicted risk of one patient",
        "multitask": "Train several tasks on one encoder, and compare with separate training",
        "embeddings": "Draw a map of a model's codes, and list the nearest neighbours of each",
    },
}
"""Purpose of each command, by group and name."""

COMMANDS = {name: purpose for group in COMMAND_GROUPS.values() for name, purpose in group.items()}


class DefaultsHelpFormatter(argparse.HelpFormatter):
    """Adds `(default: ...)` to the help of each option that has a default value other than False or empty."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        default = action.default
        shown = bool(default) or (isinstance(default, int | float) and default is not False)
        if not action.option_strings or default is argparse.SUPPRESS or not shown:
            return action.help
        return f"{action.help} (default: %(default)s)"


def main_parser() -> argparse.ArgumentParser:
    """Return the parser of `ehr-bert` without a command. It lists all commands and imports none."""
    width = max(map(len, COMMANDS)) + 2
    groups = (
        f"{title}:\n" + "\n".join(f"  {name:<{width}}{purpose}" for name, purpose in group.items())
        for title, group in COMMAND_GROUPS.items()
    )
    parser = argparse.ArgumentParser(
        prog="ehr-bert",
        usage="ehr-bert COMMAND ...",
        description="Pretrain BERT on structured health records, and predict diseases with it.\n\n"
        + "\n\n".join(groups),
        epilog="`ehr-bert COMMAND --help` describes the arguments of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ehr-bert {__version__}")
    parser.add_argument("command", metavar="COMMAND", choices=COMMANDS, help=argparse.SUPPRESS)
    return parser


def command_parser(name: str) -> argparse.ArgumentParser:
    """Return the parser of one command.

    An option that is not given is None, unless it has a default. Importing the module of a command is cheap:
    it imports the libraries that it needs when it runs.
    """
    parser = argparse.ArgumentParser(
        prog=f"ehr-bert {name}", description=f"{COMMANDS[name]}.", formatter_class=DefaultsHelpFormatter
    )
    group = parser.add_mutually_exclusive_group()
    for flag, verbosity, purpose in (
        ("--quiet", Verbosity.QUIET, "print only results, warnings and errors"),
        ("--verbose", Verbosity.VERBOSE, "print details"),
    ):
        group.add_argument(flag, dest="verbosity", action="store_const", const=verbosity, help=purpose)
    _module(name).add_arguments(parser)
    return parser


def _module(command: str) -> ModuleType:
    return importlib.import_module(f"ehr_bert.cli.{command.replace('-', '_')}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: Arguments, `sys.argv[1:]` by default.

    Returns:
        The exit status: 0 after success, otherwise as in `exit_status`. Wrong arguments end the process with
        status 2.
    """
    argv = sys.argv[1:] if argv is None else argv
    name, *others = argv if argv and argv[0] in COMMANDS else [main_parser().parse_args(argv).command]

    def run() -> None:
        configure_logging()
        arguments = command_parser(name).parse_args(others)
        configure_logging(arguments.verbosity or Verbosity.NORMAL)
        _module(name).run(arguments)

    return exit_status(f"ehr-bert {name}", run)
