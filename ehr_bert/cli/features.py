"""`ehr-bert features`."""

import argparse
import math
from pathlib import Path

from ehr_bert.cli.engine_arguments import add_task_arguments, opened_task_runner


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the stage's arguments."""
    parser.add_argument("sequences", type=Path, help="folder that `ehr-bert preprocess` made")
    parser.add_argument("output", type=Path, help="folder for the examples of the train and valid splits")
    parser.add_argument("--max-seq-length", type=int, default=512, help="tokens of an example at most")
    parser.add_argument(
        "--max-predictions-per-seq",
        type=int,
        help="masked codes of an example at most (probability x length, rounded up, if not given)",
    )
    parser.add_argument("--masked-lm-prob", type=float, default=0.15, help="share of the codes to mask")
    parser.add_argument("--seed", type=int, default=12345, help="seed of the masking")
    parser.add_argument(
        "--long-patients",
        choices=["split", "latest", "drop"],
        default="split",
        help="a patient longer than an example is split at visits, cut to the latest visits, or left out",
    )
    parser.add_argument(
        "--med-bert",
        action="store_true",
        help="Med-BERT's choices: mask with id 0, no [CLS], leave out patients who are too long or whose "
        "first stay is 0 days or less",
    )
    parser.add_argument("--shards", type=int, default=1, help="files a split")
    add_task_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Writes the examples of the training and validation patients, and prints what became of them."""
    from ehr_bert.examples.tutorial import TutorialSettings
    from ehr_bert.examples.windows import LongPatients
    from ehr_bert.examples.writing import write_folder

    settings = TutorialSettings(
        max_seq_length=arguments.max_seq_length,
        max_predictions_per_seq=arguments.max_predictions_per_seq
        or math.ceil(arguments.masked_lm_prob * arguments.max_seq_length),
        masked_lm_prob=arguments.masked_lm_prob,
        seed=arguments.seed,
        long_patients=LongPatients(arguments.long_patients),
        med_bert=arguments.med_bert,
    )
    with opened_task_runner(arguments, arguments.output.absolute().parent) as run_tasks:
        accounts = write_folder(arguments.sequences, arguments.output, settings, arguments.shards, run_tasks)
    for split, account in accounts.items():
        print(f"{split}: {account}")
