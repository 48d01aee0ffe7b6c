"""`ehr-bert features`: convert patient sequences to TFRecord examples."""

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from ehr_bert.cli.engine_arguments import add_task_arguments, opened_task_runner
from ehr_bert.errors import UserError
from ehr_bert.files import linked_path

if TYPE_CHECKING:
    from ehr_bert.examples.packed import PackedSettings
    from ehr_bert.examples.tutorial import TutorialSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("sequences", type=Path, metavar="SEQUENCES", help="output folder of preprocess")
    parser.add_argument("output", type=Path, metavar="OUT", help="folder to write")
    parser.add_argument(
        "--max-seq-length",
        type=int,
        default=512,
        metavar="N",
        help="maximum number of tokens per example, including [CLS]",
    )
    parser.add_argument(
        "--long-patients",
        choices=["split", "latest", "drop"],
        default="split",
        help="split patients with more codes than an example at visits, keep their latest visits, or drop "
        "them",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=12345,
        help="random seed of the packing, or of the masking with --tutorial",
    )
    parser.add_argument(
        "--vocabulary",
        type=Path,
        metavar="FILE",
        help="vocabulary of the examples, such as the output of `ehr-bert vocabulary` (default: that of "
        "SEQUENCES)",
    )
    parser.add_argument(
        "--shards", type=int, default=1, metavar="N", help="number of files per split and window length"
    )
    add_task_arguments(parser)
    tutorial = parser.add_argument_group(
        "the tutorial's examples", "one patient per example, padded, and masked when it is written"
    )
    tutorial.add_argument(
        "--tutorial", action="store_true", help="write the tutorial's examples instead of packed windows"
    )
    masking = [
        tutorial.add_argument(
            "--masked-lm-prob", type=float, metavar="P", help="share of the codes to mask (default: 0.15)"
        ),
        tutorial.add_argument(
            "--max-predictions-per-seq",
            type=int,
            metavar="N",
            help="maximum number of masked codes per example (default: --masked-lm-prob x --max-seq-length, "
            "rounded up)",
        ),
        tutorial.add_argument(
            "--med-bert",
            action="store_true",
            default=None,
            help="reproduce Med-BERT: mask with id 0, add no [CLS], and exclude patients with too many codes "
            "or a first stay of 0 days or less",
        ),
    ]
    parser.set_defaults(masking_options={option.dest: option.option_strings[0] for option in masking})


def run(arguments: argparse.Namespace) -> None:
    """Write the examples of training and validation patients, and print the counts of patients."""
    from ehr_bert.examples.writing import write_folder
    from ehr_bert.vocabulary import Vocabulary

    vocabulary = Vocabulary.read(arguments.vocabulary) if arguments.vocabulary else None
    settings = _tutorial_settings(arguments) if arguments.tutorial else _packed_settings(arguments)
    with opened_task_runner(arguments, linked_path(arguments.output).parent) as run_tasks:
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
                "setting-without-effect",
                f"{option} has no effect on packed windows, which are masked during training as its recipe "
                "specifies. Remove it, or add --tutorial.",
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
