"""`ehr-bert simulate`: create records of synthetic patients with known risks."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("output", type=Path, metavar="OUT", help="folder to write")
    parser.add_argument("--patients", type=int, default=10_000, metavar="N", help="number of patients")
    parser.add_argument(
        "--visits", type=float, default=20.0, metavar="MEAN", help="mean number of visits per patient"
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed; the same seed gives the same files")
    parser.add_argument(
        "--version",
        type=int,
        choices=(1,),
        default=1,
        help="version of the simulator",
    )
    parser.add_argument(
        "--format",
        choices=("tsv", "parquet"),
        default="tsv",
        help="format of the diagnosis table: the TSV of the Med-BERT tutorial, or Parquet",
    )


def run(arguments: argparse.Namespace) -> None:
    """Simulate a dataset and print its summary."""
    from ehr_bert.simulation.version1.simulate import Version1Settings, simulate_version1

    summary = simulate_version1(
        arguments.output,
        Version1Settings(arguments.patients, arguments.visits, arguments.seed, arguments.format),
    )
    cohort = summary["cohort"]
    print(
        f"{arguments.patients:,} patients, {summary['visits']:,} visits "
        f"({summary['prolonged_stays']:.1%} prolonged stays), "
        f"{summary['rows']:,} rows, {summary['codes']:,} codes\n"
        f"cohort of {cohort['patients']:,} patients: {cohort['cases']:,} cases of {cohort['outcome']} "
        f"within {cohort['horizon_days']} days; best possible AUROC {cohort['best_auroc']}\n"
        f"written to {arguments.output}"
    )
