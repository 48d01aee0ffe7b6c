"""`ehr-bert explain`."""

import argparse
from pathlib import Path

from ehr_bert.cli.counts import natural
from ehr_bert.cli.path_arguments import add_path, add_titles


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the stage's arguments."""
    add_path(parser, "--model", "fine-tuned model, as `ehr-bert predict` takes it")
    add_path(parser, "--input", "what `ehr-bert cohort` wrote", "COHORT")
    example = parser.add_mutually_exclusive_group(required=True)
    example.add_argument("--row", type=natural, metavar="N", help="the cohort's row, counted from 0")
    example.add_argument(
        "--patient",
        metavar="ID",
        help="the patient instead, at the latest index date; the id isn't written anywhere",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="the .html file to write")
    add_titles(parser)


def run(arguments: argparse.Namespace) -> None:
    """Writes the page of one patient's prediction."""
    from ehr_bert.codes.titles import read_titles
    from ehr_bert.cohorts.cohort import read_cohort
    from ehr_bert.report.explaining import row_of_patient, write_patient_page

    titles = read_titles(arguments.titles) if arguments.titles else None
    cohort = read_cohort(arguments.input)
    row = row_of_patient(cohort, arguments.patient) if arguments.row is None else arguments.row
    told = write_patient_page(arguments.model, cohort, row, arguments.out, titles)
    print(f"{arguments.out}: {told}")
