"""Arguments shared by the commands that run or plan a training run."""

import argparse
import re
from collections.abc import Sequence
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
    from ehr_bert.examples.reading import expand
    from ehr_bert.training.inputs import FeatureSource

    sources = []
    for text in given:
        named = re.fullmatch(r"([^/=]+)=(.+)", text)
        name, folder = named.groups() if named else ("", text)
        sources.append(
            FeatureSource(expand(f"{folder}/train-*.tfrecord"), expand(f"{folder}/valid-*.tfrecord"), name)
        )
    return sources
