"""`ehr-bert explain`: write a page that explains the predicted risk of one patient."""

import argparse
from pathlib import Path

from ehr_bert.cli.counts import natural
from ehr_bert.cli.path_arguments import add_path, add_titles


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_path(parser, "--model", "fine-tuned model, as for `ehr-bert predict`")
    add_path(parser, "--input", "output folder of `ehr-bert cohort`", "COHORT")
    example = parser.add_mutually_exclusive_group(required=True)
    example.add_argument("--row", type=natural, metavar="N", help="row of the cohort table, counted from 0")
    example.add_argument(
        "--patient",
        metavar="ID",
        help="patient, at the latest index date; the id is not written to the page",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="HTML file to write")
    add_titles(parser)


def run(arguments: argparse.Namespace) -> None:
    """Write the page, and print a summary."""
    from ehr_bert.codes.titles import read_titles
    from ehr_bert.cohorts.cohort import read_cohort
    from ehr_bert.report.explaining import row_of_patient, write_patient_page

    titles = read_titles(arguments.titles) if arguments.titles else None
    cohort = read_cohort(arguments.input)
    row = row_of_patient(cohort, arguments.patient) if arguments.row is None else arguments.row
    summary = write_patient_page(arguments.model, cohort, row, arguments.out, titles)
    print(f"{arguments.out}: {summary}")
