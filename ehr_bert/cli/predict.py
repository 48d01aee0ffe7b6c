"""`ehr-bert predict`: calibrated risks of patients, by a model that was fine-tuned."""

import argparse
from pathlib import Path

from ehr_bert.cli.engine_arguments import add_engine_arguments, opened_engine
from ehr_bert.cli.path_arguments import add_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the stage's arguments."""
    add_path(parser, "--model", "what `ehr-bert finetune` wrote")
    add_path(
        parser,
        "--input",
        "who is predicted for: a cohort, what `ehr-bert preprocess` wrote, or a diagnosis table as it "
        "takes it, of which whole histories are read",
        "PATH",
    )
    parser.add_argument(
        "out",
        type=Path,
        metavar="OUT",
        help="the .parquet or .csv file to write: patient_id, risk, and for a cohort index_date",
    )
    parser.add_argument(
        "--embeddings", action="store_true", help="write the vectors that the head reads too; Parquet alone"
    )
    add_engine_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    from ehr_bert.prediction.serving import predict

    with opened_engine(arguments, arguments.out.absolute().parent) as engine:
        served = predict(
            arguments.model, arguments.input, arguments.out, engine, embeddings=arguments.embeddings
        )
    print(f"{arguments.out}: {served}")
