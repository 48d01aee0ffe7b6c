"""`ehr-bert simulate`: create records of synthetic patients with known risks."""

import argparse
from datetime import date
from pathlib import Path
from typing import Any

from ehr_bert.errors import UserError

_FORMATS = ("tsv", "parquet", "omop", "meds", "fhir")
_PRESETS = ("default", "constant-hazard")
_VERSION_2_ONLY = ("preset", "landmarks", "horizons", "informative_censoring", "workers")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("output", type=Path, metavar="OUT", help="folder to write")
    parser.add_argument("--patients", type=int, default=10_000, metavar="N", help="number of patients")
    parser.add_argument(
        "--visits",
        type=float,
        default=20.0,
        metavar="MEAN",
        help="approximate mean number of visits per patient",
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed; the same seed gives the same files")
    parser.add_argument(
        "--format",
        choices=_FORMATS,
        default="tsv",
        help="format of the records: the TSV of the Med-BERT tutorial, an extracted folder in Parquet, "
        "OMOP 5.4, MEDS 0.4, or FHIR R4 as NDJSON, for at most 20,000 patients",
    )
    parser.add_argument(
        "--version",
        type=int,
        choices=(1, 2),
        default=2,
        help="version of the simulator; 1 writes the data of version 0.1 of this package, as TSV or Parquet",
    )
    parser.add_argument(
        "--preset",
        choices=_PRESETS,
        help="mechanism: each disease depends on the past in another way (default), or no risk depends on "
        "anything (constant-hazard)",
    )
    parser.add_argument(
        "--landmarks",
        type=_dates,
        metavar="DATE,...",
        help="days for which true risks are computed (default: 2015-01-01); '' for none",
    )
    parser.add_argument(
        "--horizons",
        type=_days,
        metavar="DAYS,...",
        help="horizons of the true risks in days (default: 365,1095)",
    )
    parser.add_argument(
        "--informative-censoring",
        type=float,
        metavar="SHARE",
        help="share of the hazard of leaving that depends on hidden frailty, from 0 to 1 (default: 0)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="number of processes (default: one per CPU); the files do not depend on it",
    )


def run(arguments: argparse.Namespace) -> None:
    """Simulate a data set and print its summary."""
    (_run_version1 if arguments.version == 1 else _run_version2)(arguments)


def _run_version2(arguments: argparse.Namespace) -> None:
    from ehr_bert.simulation.chunks import PopulationSettings
    from ehr_bert.simulation.mechanism import Preset
    from ehr_bert.simulation.simulate import simulate

    given: dict[str, Any] = {
        name: value
        for name in ("preset", "landmarks", "horizons", "informative_censoring")
        if (value := getattr(arguments, name)) is not None
    }
    if "preset" in given:
        given["preset"] = Preset(given["preset"])
    settings = PopulationSettings(arguments.patients, arguments.visits, arguments.seed, **given)
    summary = simulate(arguments.output, settings, arguments.format, arguments.workers)
    lines = [
        f"{summary['patients']:,} patients, {summary['deaths']:,} deaths, {summary['leavers']:,} left early",
        f"{summary['visits']:,} visits ({summary['prolonged_stays']:.1%} prolonged stays), "
        f"{summary['events']:,} diagnoses, {summary['codes']:,} codes",
        *_risk_lines(summary["risks"]),
        f"written to {arguments.output}",
    ]
    print("\n".join(lines))


def _risk_lines(risks: list[dict[str, Any]]) -> list[str]:
    """Return a table of the true risks."""
    if not risks:
        return []
    header = ("landmark", "outcome", "days", "at risk", "mean risk", "best AUROC")
    rows = [
        (
            row["landmark"],
            row["outcome"],
            f"{row['horizon_days']:,}",
            f"{row['patients']:,}",
            "" if row["mean_risk"] is None else f"{row['mean_risk']:.2%}",
            "" if row["best_auroc"] is None else f"{row['best_auroc']:.3f}",
        )
        for row in risks
    ]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (header, *rows)
    ]


def _run_version1(arguments: argparse.Namespace) -> None:
    from ehr_bert.simulation.version1.simulate import Version1Settings, simulate_version1

    unused = [
        f"--{name.replace('_', '-')}" for name in _VERSION_2_ONLY if getattr(arguments, name) is not None
    ]
    if unused:
        raise UserError(
            "setting-without-effect", f"{', '.join(unused)} has no effect with --version 1. Remove it."
        )
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


def _dates(text: str) -> tuple[date, ...]:
    """Return days separated by commas.

    Raises:
        argparse.ArgumentTypeError: A part is not a day.
    """
    try:
        return tuple(date.fromisoformat(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} are not days such as 2015-01-01,2016-07-01") from error


def _days(text: str) -> tuple[int, ...]:
    """Return numbers of days separated by commas.

    Raises:
        argparse.ArgumentTypeError: A part is not a number of days.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} are not days such as 365,1095") from error
