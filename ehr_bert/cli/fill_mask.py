"""`ehr-bert fill-mask`."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the stage's arguments."""
    parser.add_argument("model", type=Path, help="export folder that `ehr-bert convert` made")
    parser.add_argument("history", help="codes in order with one [MASK] among them, ' | ' between visits")
    parser.add_argument("--top", type=int, default=5, help="codes to print")
    parser.add_argument("--titles", type=Path, help="TSV of code and title, to print titles too")


def run(arguments: argparse.Namespace) -> None:
    """Prints the most probable codes at the `[MASK]` of a patient's history."""
    from ehr_bert.codes.titles import read_titles
    from ehr_bert.export.predictions import read_otherwise, top_predictions

    titles = read_titles(arguments.titles) if arguments.titles else {}
    predictions = top_predictions(arguments.model, arguments.history, arguments.top)
    print(f"history: {arguments.history}")
    for code, token in read_otherwise(arguments.model, arguments.history).items():
        print(f"  {code} is not in the model's vocabulary: read as {token}")
    for code, probability in predictions:
        print(f"  {probability:6.1%}  {code:<16} {titles.get(code, '')}".rstrip())
