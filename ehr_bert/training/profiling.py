"""A TensorFlow profile of a few updates, for TensorBoard."""

from pathlib import Path
from types import TracebackType

import tensorflow as tf

BEFORE, PROFILED = 2, 3
"""Updates of this process before the profile, for the compiling, and in it."""


class Profile:
    """Within a `with` block, profiles some of the updates, if a folder is given."""

    def __init__(self, folder: Path | None):
        """Takes the folder of TensorBoard's events."""
        self._folder = folder
        self._runs = False

    def __enter__(self) -> "Profile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def update(self, number: int) -> None:
        """Says that this process begins its update of that number, from 0."""
        if self._folder and number == BEFORE:
            tf.profiler.experimental.start(str(self._folder))
            self._runs = True
        elif number == BEFORE + PROFILED:
            self._stop()

    def _stop(self) -> None:
        if self._runs:
            tf.profiler.experimental.stop()
            self._runs = False
