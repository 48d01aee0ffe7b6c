"""Arguments on days and times."""

import argparse
from datetime import date


def add_time_zone_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--time-zone`, for every command that reads a table with times."""
    parser.add_argument(
        "--time-zone",
        metavar="ZONE",
        help="IANA name of the time zone of the hospital, such as Europe/Berlin: times with a time zone or "
        "an offset from UTC are converted to its local day and time; by default columns of type timestamp "
        "with time zone are read in UTC, and texts as written",
    )


def day_argument(text: str) -> date:
    """Parse a day of the form `YYYY-MM-DD`.

    Raises:
        argparse.ArgumentTypeError: The text has another form.
    """
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date of the form YYYY-MM-DD") from error
