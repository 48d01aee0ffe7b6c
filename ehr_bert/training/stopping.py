"""Being told to stop: by SIGTERM, as batch systems do before they kill, or by Ctrl-C."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import tensorflow as tf

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopping:
    """Within a `with` block, notes that the process was told to stop. A second Ctrl-C ends it at once.

    Attributes:
        by: The signal's name, or None.
    """

    by: str | None = None

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        """Takes the strategy, whose workers stop together."""
        self._before: dict[int, Any] = {}
        self._several = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)

        @tf.function
        def count(told: tf.Tensor) -> tf.Tensor:
            return strategy.reduce("SUM", strategy.run(tf.identity, args=(told,)), axis=None)

        self._count = count

    def __enter__(self) -> "Stopping":
        if threading.current_thread() is threading.main_thread():  # no other may handle signals
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.by = signal.Signals(number).name
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def asked(self) -> bool:
        """Whether this process was told to stop, or any other worker was: all ask after the same update."""
        told = self.by is not None
        return float(self._count(tf.constant(float(told)))) > 0 if self._several else told
