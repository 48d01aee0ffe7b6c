"""`ehr-bert vocabulary`: merge the vocabularies of several corpora."""

import argparse
from pathlib import Path

from ehr_bert.cli.counts import count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "sequences",
        type=Path,
        nargs="+",
        metavar="SEQUENCES",
        help="output folders of preprocess, one per corpus",
    )
    parser.add_argument("output", type=Path, metavar="OUT", help="file to write, such as vocabulary.tsv")
    parser.add_argument(
        "--amplify",
        type=float,
        nargs="+",
        metavar="X",
        help="factor by which the patient counts of each corpus are multiplied, such as 1 5; by default 1",
    )
    parser.add_argument(
        "--size",
        type=count,
        metavar="N",
        help="maximum number of tokens, the most frequent after amplification; by default all",
    )
    parser.add_argument(
        "--min-patients",
        type=count,
        default=1,
        metavar="N",
        help="exclude codes with fewer than N training patients in all corpora together",
    )


def run(arguments: argparse.Namespace) -> None:
    """Write the vocabulary, and print the number of codes of each corpus that it contains."""
    from ehr_bert.sequences.mixed_vocabulary import mixed_vocabulary, vocabulary_coverage
    from ehr_bert.vocabulary import VOCABULARY_TABLE, Vocabulary

    corpora = [Vocabulary.read(folder / VOCABULARY_TABLE) for folder in arguments.sequences]
    no_amplification = [1.0] * len(corpora)
    factors = arguments.amplify or no_amplification
    limits = (arguments.size, arguments.min_patients)
    vocabulary = mixed_vocabulary(corpora, factors, *limits)
    unamplified = mixed_vocabulary(corpora, no_amplification, *limits)
    vocabulary.write(arguments.output)
    print(f"{len(vocabulary):,} tokens in {arguments.output}")
    for folder, corpus, factor in zip(arguments.sequences, corpora, factors, strict=True):
        comparison = (
            f" (without amplification {vocabulary_coverage(corpus, unamplified)})"
            if unamplified != vocabulary
            else ""
        )
        print(f"{folder}, {factor:g} times: {vocabulary_coverage(corpus, vocabulary)}{comparison}")
