"""Interruption of a training run: by SIGTERM (sent by batch systems before they kill a job) or Ctrl-C."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import tensorflow as tf

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interruption:
    """Record signals within a `with` block, so that the training run can save. A second Ctrl-C kills it.

    Args:
        strategy: Strategy of the training run. All its workers stop together.

    Attributes:
        signal_name: Name of the signal that this process received, or None.
    """

    signal_name: str | None = None

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self._before: dict[int, Any] = {}
        self._several = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)

        @tf.function
        def count(interrupted: tf.Tensor) -> tf.Tensor:
            return strategy.reduce("SUM", strategy.run(tf.identity, args=(interrupted,)), axis=None)

        self._count = count

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():  # only this thread may handle signals
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal_name = signal.Signals(number).name
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def requested(self) -> bool:
        """Return whether this process or another worker was interrupted. All workers call it together."""
        interrupted = self.signal_name is not None
        if not self._several:
            return interrupted
        return float(self._count(tf.constant(float(interrupted)))) > 0
