"""TensorFlow profile of a few updates, for TensorBoard."""

from pathlib import Path
from types import TracebackType

import tensorflow as tf

BEFORE, PROFILED = 2, 3
"""Number of updates of this process before the profile, which compile the model, and within it."""


class Profile:
    """Profile a few updates within a `with` block.

    Args:
        folder: Folder of TensorBoard events. If None, nothing is profiled.
    """

    def __init__(self, folder: Path | None):
        self._folder = folder
        self._running = False

    def __enter__(self) -> "Profile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def update(self, number: int) -> None:
        """Announce the next update. `number` counts the updates of this process from 0."""
        if self._folder and number == BEFORE:
            tf.profiler.experimental.start(str(self._folder))
            self._running = True
        elif number == BEFORE + PROFILED:
            self._stop()

    def _stop(self) -> None:
        if self._running:
            tf.profiler.experimental.stop()
            self._running = False
