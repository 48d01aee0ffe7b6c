"""`ehr-bert features`."""

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from ehr_bert.cli.engine_arguments import add_task_arguments, opened_task_runner
from ehr_bert.errors import UserError

if TYPE_CHECKING:
    from ehr_bert.examples.packed import PackedSettings
    from ehr_bert.examples.tutorial import TutorialSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the stage's arguments."""
    parser.add_argument("sequences", type=Path, help="folder that `ehr-bert preprocess` made")
    parser.add_argument("output", type=Path, help="folder for the examples of the train and valid splits")
    parser.add_argument(
        "--max-seq-length", type=int, default=512, help="tokens of an example at most, [CLS] counted"
    )
    parser.add_argument(
        "--long-patients",
        choices=["split", "latest", "drop"],
        default="split",
        help="a patient longer than an example is split at visits, cut to the latest visits, or left out",
    )
    parser.add_argument(
        "--seed", type=int, default=12345, help="seed of the packing, or with --tutorial of the masking"
    )
    parser.add_argument(
        "--vocabulary",
        type=Path,
        help="of the examples, such as `ehr-bert vocabulary` made; if not given the sequences' own",
    )
    parser.add_argument("--shards", type=int, default=1, help="files a split, and a length of windows")
    add_task_arguments(parser)
    tutorial = parser.add_argument_group(
        "the tutorial's examples", "one patient an example, padded, and masked when it is written"
    )
    tutorial.add_argument("--tutorial", action="store_true", help="write these instead of packed windows")
    masking = [
        tutorial.add_argument("--masked-lm-prob", type=float, help="share of the codes to mask (0.15)"),
        tutorial.add_argument(
            "--max-predictions-per-seq",
            type=int,
            help="masked codes of an example at most (probability x length, rounded up)",
        ),
        tutorial.add_argument(
            "--med-bert",
            action="store_true",
            default=None,
            help="Med-BERT's choices: mask with id 0, no [CLS], leave out patients who are too long or whose "
            "first stay is 0 days or less",
        ),
    ]
    parser.set_defaults(masking_options={each.dest: each.option_strings[0] for each in masking})


def run(arguments: argparse.Namespace) -> None:
    """Writes the examples of the training and validation patients, and prints what became of them."""
    from ehr_bert.examples.writing import write_folder
    from ehr_bert.vocabulary import Vocabulary

    vocabulary = Vocabulary.read(arguments.vocabulary) if arguments.vocabulary else None
    settings = _tutorial_settings(arguments) if arguments.tutorial else _packed_settings(arguments)
    with opened_task_runner(arguments, arguments.output.absolute().parent) as run_tasks:
        accounts = write_folder(
            arguments.sequences, arguments.output, settings, arguments.shards, run_tasks, vocabulary
        )
    for split, account in accounts.items():
        print(f"{split}: {account}")


def _packed_settings(arguments: argparse.Namespace) -> "PackedSettings":
    from ehr_bert.examples.packed import PackedSettings
    from ehr_bert.examples.packing import window_lengths
    from ehr_bert.examples.windows import LongPatients

    for name, option in arguments.masking_options.items():
        if getattr(arguments, name) is not None:
            raise UserError(
                f"{option} is for the tutorial's examples: packed windows are masked in training, as its "
                "recipe says. Leave it out, or add --tutorial"
            )
    return PackedSettings(
        seed=arguments.seed,
        window_lengths=window_lengths(arguments.max_seq_length),
        long_patients=LongPatients(arguments.long_patients),
    )


def _tutorial_settings(arguments: argparse.Namespace) -> "TutorialSettings":
    from ehr_bert.examples.tutorial import TutorialSettings
    from ehr_bert.examples.windows import LongPatients

    probability = 0.15 if arguments.masked_lm_prob is None else arguments.masked_lm_prob
    return TutorialSettings(
        max_seq_length=arguments.max_seq_length,
        max_predictions_per_seq=arguments.max_predictions_per_seq
        or math.ceil(probability * arguments.max_seq_length),
        masked_lm_prob=probability,
        seed=arguments.seed,
        long_patients=LongPatients(arguments.long_patients),
        med_bert=bool(arguments.med_bert),
    )
