"""`ehr-bert preprocess`: a diagnosis table becomes patient sequences and a vocabulary."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the stage's arguments."""
    parser.add_argument(
        "table",
        type=Path,
        metavar="TABLE",
        help="the diagnosis table: the tutorial's TSV (or .tsv.gz), a Parquet file, or a folder of them",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder to write")
    parser.add_argument("--seed", type=int, default=0, help="decides splits and sample")
    parser.add_argument(
        "--sample", type=int, default=0, metavar="N", help="take N patients; 0 takes all of them"
    )
    parser.add_argument(
        "--vocabulary",
        type=Path,
        metavar="FILE",
        help="a vocabulary.tsv or .types file whose ids are kept; codes that it lacks are appended",
    )
    parser.add_argument(
        "--memory-limit",
        metavar="SIZE",
        help="DuckDB's memory, such as 8GB; without it 80%% of the machine's",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="DuckDB's threads; without it one a core")


def run(arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    from ehr_bert.engines import DuckDBEngine
    from ehr_bert.sequences.folder import write_sequences_folder
    from ehr_bert.sequences.summary import summary_text
    from ehr_bert.vocabulary import Vocabulary

    given = Vocabulary.read(arguments.vocabulary) if arguments.vocabulary else None
    with DuckDBEngine(arguments.out.absolute().parent, arguments.memory_limit, arguments.threads) as engine:
        summary = write_sequences_folder(
            engine, arguments.table, arguments.out, arguments.seed, arguments.sample, given
        )
    print(summary_text(summary))
