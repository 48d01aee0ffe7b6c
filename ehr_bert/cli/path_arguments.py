"""Options for files and folders that several commands share."""

import argparse
from pathlib import Path


def add_path(parser: argparse.ArgumentParser, option: str, purpose: str, metavar: str = "FOLDER") -> None:
    """Add a required option for a file or folder, such as `--output`."""
    parser.add_argument(option, type=Path, required=True, metavar=metavar, help=purpose)


def add_titles(parser: argparse.ArgumentParser) -> None:
    """Add `--titles`."""
    parser.add_argument(
        "--titles", type=Path, help="TSV file of code and title, which override the published titles"
    )
