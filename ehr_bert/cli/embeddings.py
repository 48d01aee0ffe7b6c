"""`ehr-bert embeddings`."""

import argparse
from pathlib import Path

from ehr_bert.cli.counts import count, natural
from ehr_bert.cli.path_arguments import add_titles


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the stage's arguments."""
    parser.add_argument(
        "model", type=Path, help="export folder that `ehr-bert convert` made, or a fine-tuned model"
    )
    parser.add_argument("output", type=Path, help="folder to write the map and the neighbours to")
    parser.add_argument(
        "--neighbours",
        nargs="+",
        default=[],
        metavar="CODE",
        help="print the nearest neighbours of these codes, and mark them on the map",
    )
    parser.add_argument("--top", type=count, default=10, help="neighbours of each code")
    parser.add_argument(
        "--method",
        choices=("tsne", "pca"),
        default="tsne",
        help="how the map is made: t-SNE keeps neighbours together, and takes minutes for 30,000 codes; "
        "PCA takes seconds",
    )
    parser.add_argument("--seed", type=natural, default=0, help="decides where t-SNE ends")
    add_titles(parser)


def run(arguments: argparse.Namespace) -> None:
    """Writes a map of a model's codes, and what lies nearest to each."""
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
    print(f"map and neighbours of all codes: {arguments.output}")
