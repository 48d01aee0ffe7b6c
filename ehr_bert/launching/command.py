"""The command line of a training run."""

import sys
from collections.abc import Sequence
from pathlib import Path


def pretrain_command(recipe: Path, features: Sequence[str], output: Path, *flags: str) -> list[str]:
    """Return the command `ehr-bert pretrain`, run by this Python.

    Args:
        recipe: Recipe file.
        features: Values of `--features`: folders, or named folders `A=FOLDER`.
        output: Training folder.
        flags: Further arguments.
    """
    command = [sys.executable, "-m", "ehr_bert", "pretrain", "--recipe", str(recipe)]
    return [*command, "--features", *features, "--output", str(output), *flags]
