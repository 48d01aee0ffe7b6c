"""`ehr-bert vocabulary`."""

import argparse
from pathlib import Path

from ehr_bert.cli.counts import count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the stage's arguments."""
    parser.add_argument(
        "sequences", type=Path, nargs="+", help="folders that `ehr-bert preprocess` made, one a corpus"
    )
    parser.add_argument("output", type=Path, help="file to write, such as vocabulary.tsv")
    parser.add_argument(
        "--amplify",
        type=float,
        nargs="+",
        metavar="X",
        help="how many times the patients of each corpus count, such as 1 5; without it once",
    )
    parser.add_argument(
        "--size",
        type=count,
        metavar="N",
        help="tokens at most, the most frequent ones after amplification; without it all",
    )
    parser.add_argument(
        "--min-patients",
        type=count,
        default=1,
        metavar="K",
        help="leave out codes that fewer training patients have, of all corpora together",
    )


def run(arguments: argparse.Namespace) -> None:
    """Writes the vocabulary, and prints how many codes of each corpus are in it."""
    from ehr_bert.sequences.mixed_vocabulary import mixed_vocabulary, survival
    from ehr_bert.vocabulary import VOCABULARY_TABLE, Vocabulary

    corpora = [Vocabulary.read(folder / VOCABULARY_TABLE) for folder in arguments.sequences]
    as_they_are = [1.0] * len(corpora)
    amplified = arguments.amplify or as_they_are
    limits = (arguments.size, arguments.min_patients)
    vocabulary = mixed_vocabulary(corpora, amplified, *limits)
    plain = mixed_vocabulary(corpora, as_they_are, *limits)
    vocabulary.write(arguments.output)
    print(f"{len(vocabulary):,} tokens in {arguments.output}")
    for folder, corpus, factor in zip(arguments.sequences, corpora, amplified, strict=True):
        without = f" (without amplification {survival(corpus, plain)})" if plain != vocabulary else ""
        print(f"{folder}, {factor:g} times: {survival(corpus, vocabulary)}{without}")
