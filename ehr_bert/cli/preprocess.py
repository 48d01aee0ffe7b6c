"""`ehr-bert preprocess`: a diagnosis table becomes patient sequences and a vocabulary."""

import argparse
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from ehr_bert.cli.engine_arguments import add_engine_arguments, opened_engine

if TYPE_CHECKING:
    from ehr_bert.schemas import ContextKind


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
    add_history_arguments(parser)
    parser.add_argument(
        "--from-date", type=_day, metavar="YYYY-MM-DD", help="leave out visits discharged before"
    )
    parser.add_argument("--until", type=_day, metavar="YYYY-MM-DD", help="leave out visits discharged after")
    parser.add_argument(
        "--min-codes",
        type=int,
        default=0,
        metavar="N",
        help="leave out patients with fewer codes than N, each counted once a visit",
    )
    parser.add_argument(
        "--min-visits", type=int, default=0, metavar="N", help="leave out patients with fewer visits than N"
    )
    parser.add_argument(
        "--min-patients",
        type=int,
        default=0,
        metavar="N",
        help="codes that fewer than N patients of the training split have become the nearest heading that "
        "enough have, else [UNK]",
    )
    add_engine_arguments(parser)


def add_history_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments on what histories hold, for every stage that makes some."""
    parser.add_argument(
        "--roll-up",
        choices=("none", "3-character", "ccs", "ccsr", "icd10"),
        default="none",
        help="coarser codes: ICD's 3-character categories, CCS or CCSR; or codes of ICD-9 to ICD-10; codes "
        "that have none are kept as they are, and counted",
    )
    parser.add_argument(
        "--tokens",
        type=_context_kinds,
        default=frozenset(),
        metavar="KIND,...",
        help="tokens before the codes of a visit: sex (at the first), age, gap (days since the last visit)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    from ehr_bert.codes import RollUp
    from ehr_bert.sequences.building import SequenceOptions
    from ehr_bert.sequences.eligibility import Eligibility
    from ehr_bert.sequences.folder import write_sequences_folder
    from ehr_bert.sequences.summary import summary_text
    from ehr_bert.vocabulary import Vocabulary

    given = Vocabulary.read(arguments.vocabulary) if arguments.vocabulary else None
    eligibility = Eligibility(
        from_date=arguments.from_date,
        until=arguments.until,
        min_codes=arguments.min_codes,
        min_visits=arguments.min_visits,
        min_patients=arguments.min_patients,
    )
    options = SequenceOptions(RollUp(arguments.roll_up), eligibility, arguments.tokens)
    with opened_engine(arguments, arguments.out.absolute().parent) as engine:
        summary = write_sequences_folder(
            engine, arguments.table, arguments.out, arguments.seed, arguments.sample, given, options
        )
    print(summary_text(summary))


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no day: write YYYY-MM-DD") from error


def _context_kinds(text: str) -> "frozenset[ContextKind]":
    """Reads `sex,age,gap`, or some of them."""
    from ehr_bert.schemas import ContextKind

    try:
        return frozenset(map(ContextKind, text.split(",")))
    except ValueError as error:
        kinds = ", ".join(ContextKind)
        raise argparse.ArgumentTypeError(f"{text!r}: name some of {kinds}, separated by commas") from error
