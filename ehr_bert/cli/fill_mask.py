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
    import csv

    from ehr_bert.errors import UserError
    from ehr_bert.export.predictions import read_otherwise, top_predictions

    titles = {}
    if arguments.titles:
        try:
            with open(arguments.titles, encoding="utf-8", newline="") as file:
                titles = {row[0]: row[1] for row in csv.reader(file, delimiter="\t") if len(row) > 1}
        except OSError as error:
            raise UserError(f"{arguments.titles} can't be read: {error.strerror}") from error
    predictions = top_predictions(arguments.model, arguments.history, arguments.top)
    print(f"history: {arguments.history}")
    for code, token in read_otherwise(arguments.model, arguments.history).items():
        print(f"  {code} is not in the model's vocabulary: read as {token}")
    for code, probability in predictions:
        print(f"  {probability:6.1%}  {code:<16} {titles.get(code, '')}".rstrip())
