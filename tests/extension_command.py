"""Runs `ehr-bert` as if the package in `extension_package` was installed."""

import os
import subprocess
import sys
from pathlib import Path

EXTENSION_PACKAGE = Path(__file__).parent / "extension_package"


def run_with_extension(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `ehr-bert ARGUMENTS` in a process that finds the package, and return its output."""
    paths = [str(EXTENSION_PACKAGE), str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-m", "ehr_bert", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
