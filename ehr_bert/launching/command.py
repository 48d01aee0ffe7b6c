"""The command that a started process runs."""

import sys
from collections.abc import Sequence
from pathlib import Path


def pretrain_command(recipe: Path, features: Sequence[str], output: Path, *flags: str) -> list[str]:
    """`ehr-bert pretrain` under this Python.

    Args:
        recipe: The recipe.
        features: As its flag takes them: folders, or names with folders, `A=FOLDER`.
        output: The training folder.
        flags: Any others.
    """
    command = [sys.executable, "-m", "ehr_bert", "pretrain", "--recipe", str(recipe)]
    return [*command, "--features", *features, "--output", str(output), *flags]
