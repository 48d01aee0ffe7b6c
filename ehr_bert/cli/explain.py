"""`ehr-bert explain`."""

import argparse
from pathlib import Path

from ehr_bert.cli.counts import natural


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the stage's arguments."""
    parser.add_argument(
        "--model",
        type=Path,
        required=True,
        default=argparse.SUPPRESS,
        metavar="FOLDER",
        help="fine-tuned model, as `ehr-bert predict` takes it",
    )
    parser.add_argument(
        "--input",
        type=Path,
        required=True,
        default=argparse.SUPPRESS,
        metavar="COHORT",
        help="what `ehr-bert cohort` wrote",
    )
    example = parser.add_mutually_exclusive_group(required=True)
    example.add_argument(
        "--row", type=natural, default=argparse.SUPPRESS, metavar="N", help="the cohort's row, counted from 0"
    )
    example.add_argument(
        "--patient",
        default=argparse.SUPPRESS,
        metavar="ID",
        help="the patient instead, at the latest index date; the id isn't written anywhere",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="the .html file to write")
    parser.add_argument("--titles", type=Path, help="TSV of code and title, before the published titles")


def run(arguments: argparse.Namespace) -> None:
    """Writes the page of one patient's prediction."""
    from ehr_bert.codes.titles import read_titles
    from ehr_bert.cohorts.cohort import read_cohort
    from ehr_bert.report.explaining import row_of_patient, write_patient_page

    titles = read_titles(arguments.titles) if arguments.titles else None
    cohort = read_cohort(arguments.input)
    row = arguments.row if "row" in arguments else row_of_patient(cohort, arguments.patient)
    told = write_patient_page(arguments.model, cohort, row, arguments.out, titles)
    print(f"{arguments.out}: {told}")
