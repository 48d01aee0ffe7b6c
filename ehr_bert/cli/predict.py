"""`ehr-bert predict`: predict each patient's risk with a fine-tuned model."""

import argparse
from pathlib import Path

from ehr_bert.cli.engine_arguments import add_engine_arguments, opened_engine
from ehr_bert.cli.path_arguments import add_path
from ehr_bert.files import linked_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_path(parser, "--model", "output folder of `ehr-bert finetune`, or the folder `model` in it")
    add_path(
        parser,
        "--input",
        "the patients: a cohort, whose histories end at the index dates; or the output of "
        "`ehr-bert preprocess`, or a diagnosis table, with complete histories",
        "PATH",
    )
    parser.add_argument(
        "out",
        type=Path,
        metavar="OUT",
        help=".parquet or .csv file to write, with the columns patient_id, index_date (if known) and risk",
    )
    parser.add_argument(
        "--embeddings",
        action="store_true",
        help="also write the vector that the prediction head reads; needs a .parquet file",
    )
    add_engine_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Write the risks and print a summary."""
    from ehr_bert.prediction.serving import predict

    with opened_engine(arguments, linked_path(arguments.out).parent) as engine:
        summary = predict(
            arguments.model, arguments.input, arguments.out, engine, embeddings=arguments.embeddings
        )
    print(f"{arguments.out}: {summary}")
