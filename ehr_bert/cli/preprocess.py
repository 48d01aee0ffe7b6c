"""`ehr-bert preprocess`: convert a diagnosis table to patient sequences and a vocabulary."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ehr_bert.cli.engine_arguments import add_engine_arguments, opened_engine
from ehr_bert.cli.time_arguments import add_time_zone_argument, day_argument
from ehr_bert.files import linked_path

if TYPE_CHECKING:
    from ehr_bert.schemas import ContextKind


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "table",
        type=Path,
        metavar="TABLE",
        help="diagnosis table: an output folder of extract, a Parquet file or folder, or the tutorial's TSV "
        "(.tsv, .tsv.gz)",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the splits and the sample")
    parser.add_argument(
        "--sample", type=int, default=0, metavar="N", help="number of patients to sample; 0 keeps all"
    )
    parser.add_argument(
        "--vocabulary",
        type=Path,
        metavar="FILE",
        help="vocabulary.tsv or .types file whose ids are kept; new codes are appended",
    )
    add_history_arguments(parser)
    parser.add_argument(
        "--from-date",
        type=day_argument,
        metavar="YYYY-MM-DD",
        help="exclude visits discharged before this day",
    )
    parser.add_argument(
        "--until", type=day_argument, metavar="YYYY-MM-DD", help="exclude visits discharged after this day"
    )
    parser.add_argument(
        "--min-codes",
        type=int,
        default=0,
        metavar="N",
        help="exclude patients with fewer than N codes; a code counts once per visit",
    )
    parser.add_argument(
        "--min-visits", type=int, default=0, metavar="N", help="exclude patients with fewer than N visits"
    )
    parser.add_argument(
        "--min-patients",
        type=int,
        default=0,
        metavar="N",
        help="replace codes of fewer than N training patients by the nearest heading with at least N, "
        "or by [UNK]",
    )
    add_time_zone_argument(parser)
    add_engine_arguments(parser)


def add_history_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments on the contents of histories, for every command that builds histories."""
    parser.add_argument(
        "--roll-up",
        choices=("none", "3-character", "ccs", "ccsr", "icd10"),
        default="none",
        help="roll codes up to 3-character ICD categories, CCS or CCSR, or map ICD-9-CM to ICD-10-CM; codes "
        "without a target are kept and counted",
    )
    parser.add_argument(
        "--tokens",
        type=_context_kinds,
        default=frozenset(),
        metavar="KIND,...",
        help="context tokens before the codes of a visit: sex (first visit only), age, gap (days since the "
        "previous visit)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Write the sequences and the vocabulary, and print a summary."""
    from ehr_bert.codes import RollUp
    from ehr_bert.sequences.building import SequenceOptions
    from ehr_bert.sequences.eligibility import Eligibility
    from ehr_bert.sequences.folder import write_sequences_folder
    from ehr_bert.sequences.summary import summary_text
    from ehr_bert.sources.times import time_zone
    from ehr_bert.vocabulary import Vocabulary

    vocabulary = Vocabulary.read(arguments.vocabulary) if arguments.vocabulary else None
    eligibility = Eligibility(
        from_date=arguments.from_date,
        until=arguments.until,
        min_codes=arguments.min_codes,
        min_visits=arguments.min_visits,
        min_patients=arguments.min_patients,
    )
    zone = time_zone(arguments.time_zone)
    options = SequenceOptions(RollUp(arguments.roll_up), eligibility, arguments.tokens)
    with opened_engine(arguments, linked_path(arguments.out).parent) as engine:
        summary = write_sequences_folder(
            engine,
            arguments.table,
            arguments.out,
            arguments.seed,
            arguments.sample,
            vocabulary,
            options,
            zone,
        )
    print(summary_text(summary))


def _context_kinds(text: str) -> "frozenset[ContextKind]":
    """Parse kinds of context tokens, such as `sex,age,gap`."""
    from ehr_bert.schemas import ContextKind

    try:
        return frozenset(map(ContextKind, text.split(",")))
    except ValueError as error:
        kinds = ", ".join(ContextKind)
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of {kinds}, separated by commas") from error
