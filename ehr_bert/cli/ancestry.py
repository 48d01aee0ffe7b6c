"""`ehr-bert ancestry`."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "model",
        type=Path,
        help="training folder, for its newest checkpoint; DIR/best or a checkpoint in it; or an export",
    )


def run(arguments: argparse.Namespace) -> None:
    """Print the training runs behind a model, the newest first."""
    from ehr_bert.quiet import import_tensorflow

    import_tensorflow()
    from ehr_bert.training.initial import read_pretrained
    from ehr_bert.training.record.ancestry import ancestry_of

    print(ancestry_of(read_pretrained(arguments.model)))
