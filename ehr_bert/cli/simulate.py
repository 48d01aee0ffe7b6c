"""`ehr-bert simulate`."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the stage's arguments."""
    parser.add_argument("output", type=Path, metavar="OUT", help="folder to make")
    parser.add_argument("--patients", type=int, default=10_000, help="how many patients")
    parser.add_argument("--visits", type=float, default=20.0, help="visits of a patient, on average")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same bytes")
    parser.add_argument(
        "--format", choices=("tsv", "parquet"), default="tsv", help="the Med-BERT tutorial's, or Parquet"
    )


def run(arguments: argparse.Namespace) -> None:
    """Simulates the data, and prints what it holds."""
    from ehr_bert.simulation.simulate import SimulationSettings, simulate

    summary = simulate(
        arguments.output,
        SimulationSettings(arguments.patients, arguments.visits, arguments.seed, arguments.format),
    )
    cohort = summary["cohort"]
    print(
        f"{arguments.patients:,} patients, {summary['visits']:,} visits "
        f"({summary['prolonged_stays']:.1%} prolonged stays), "
        f"{summary['rows']:,} rows, {summary['codes']:,} codes\n"
        f"cohort of {cohort['patients']:,}: {cohort['cases']:,} cases of {cohort['outcome']} "
        f"within {cohort['horizon_days']} days; best AUROC {cohort['best_auroc']}\n"
        f"in {arguments.output}"
    )
