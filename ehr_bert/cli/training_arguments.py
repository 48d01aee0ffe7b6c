"""Arguments shared by the commands that run or plan a training run."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ehr_bert.training.inputs import FeatureSource


def add_features(parser: argparse.ArgumentParser, purpose: str, required: bool = True) -> None:
    """Add `--features`."""
    parser.add_argument(
        "--features",
        nargs="+",
        required=required,
        metavar="FOLDER",
        help=purpose,
    )


def named_features(given: Sequence[str]) -> "list[FeatureSource]":
    """Return the sources of examples that are given as `FOLDER`, or as `NAME=FOLDER` for a named corpus.

    Raises:
        UserError: A folder has no examples.
    """
    from ehr_bert.examples.reading import examples_in
    from ehr_bert.training.inputs import FeatureSource

    sources = []
    for text in given:
        named = re.fullmatch(r"([^/=]+)=(.+)", text)
        name, folder = named.groups() if named else ("", text)
        train, valid = (examples_in(Path(folder), f"{split}-*.tfrecord") for split in ("train", "valid"))
        sources.append(FeatureSource(train, valid, name))
    return sources
