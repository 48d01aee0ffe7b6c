"""`ehr-bert embeddings`: draw a map of a model's codes, and list the nearest neighbours of each."""

import argparse
from pathlib import Path

from ehr_bert.cli.counts import count, natural
from ehr_bert.cli.path_arguments import add_titles


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "model",
        type=Path,
        help="export folder of `ehr-bert convert`, or fine-tuned model of `ehr-bert finetune`",
    )
    parser.add_argument("output", type=Path, help="output folder for the map and the neighbours")
    parser.add_argument(
        "--neighbours",
        nargs="+",
        default=[],
        metavar="CODE",
        help="print the nearest neighbours of these codes, and mark the codes on the map",
    )
    parser.add_argument("--top", type=count, default=10, help="number of neighbours of each code")
    parser.add_argument(
        "--method",
        choices=("tsne", "pca"),
        default="tsne",
        help="projection of the map: t-SNE keeps neighbours together and takes minutes for 30,000 codes; "
        "PCA takes seconds",
    )
    parser.add_argument("--seed", type=natural, default=0, help="random seed of t-SNE")
    add_titles(parser)


def run(arguments: argparse.Namespace) -> None:
    """Write the map and the neighbours, and print those of the requested codes."""
    from ehr_bert.codes.titles import read_titles
    from ehr_bert.prediction.explaining.embeddings import read_embeddings
    from ehr_bert.report.embedding_folder import write_embeddings

    titles = read_titles(arguments.titles) if arguments.titles else None
    print(
        write_embeddings(
            arguments.output,
            read_embeddings(arguments.model),
            arguments.method,
            arguments.seed,
            arguments.top,
            arguments.neighbours,
            titles,
        )
    )
    print(f"The map and the neighbours of all codes are in {arguments.output}.")
