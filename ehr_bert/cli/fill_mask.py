"""`ehr-bert fill-mask`."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", type=Path, help="export folder of `ehr-bert convert`")
    parser.add_argument("history", help="codes in order, one of them [MASK], with ' | ' between visits")
    parser.add_argument("--top", type=int, default=5, help="number of codes to print")
    parser.add_argument("--titles", type=Path, help="TSV file of code and title, to print titles too")


def run(arguments: argparse.Namespace) -> None:
    """Print the most probable codes at the `[MASK]` of a history."""
    from ehr_bert.codes.titles import read_titles
    from ehr_bert.export.masked_codes import replaced_codes, top_predictions

    titles = read_titles(arguments.titles) if arguments.titles else {}
    predictions = top_predictions(arguments.model, arguments.history, arguments.top)
    print(f"history: {arguments.history}")
    for code, token in replaced_codes(arguments.model, arguments.history).items():
        print(f"  {code} is not in the vocabulary of the model and is read as {token}")
    for code, probability in predictions:
        print(f"  {probability:6.1%}  {code:<16} {titles.get(code, '')}".rstrip())
