"""Options that name a file or folder, alike in every stage."""

import argparse
from pathlib import Path


def add_path(parser: argparse.ArgumentParser, option: str, purpose: str, metavar: str = "FOLDER") -> None:
    """Adds a required option, such as `--output`, without a default in its help."""
    parser.add_argument(
        option, type=Path, required=True, default=argparse.SUPPRESS, metavar=metavar, help=purpose
    )


def add_titles(parser: argparse.ArgumentParser) -> None:
    """Adds `--titles`."""
    parser.add_argument("--titles", type=Path, help="TSV of code and title, before the published titles")
