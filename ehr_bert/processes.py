"""Running independent tasks in parallel processes."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Protocol, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

_MIN_TASKS = 8
"""Minimum number of tasks per process. Starting one that imports TensorFlow takes some seconds."""


class TaskRunner(Protocol):
    """Calls a module-level function on each task and returns the results in the order of the tasks."""

    def __call__(self, function: Callable[[Job], Result], tasks: Sequence[Job]) -> Iterable[Result]:
        """Yield the result of each task as soon as it is available."""


class Processes:
    """Runs tasks in separate processes, or in this process if one is enough.

    Args:
        count: Number of processes. By default one per core, as long as each gets at least 8 tasks.
    """

    def __init__(self, count: int | None = None) -> None:
        self._count = count

    def __call__(self, function: Callable[[Job], Result], tasks: Sequence[Job]) -> Iterator[Result]:
        """Yield the result of each task as soon as it is available."""
        count = self._count or min(os.cpu_count() or 1, len(tasks) // _MIN_TASKS)
        count = min(count, len(tasks))
        if count < 2:
            yield from map(function, tasks)
            return
        # A fork of a process with threads, such as those of TensorFlow, may hang.
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(count, mp_context=spawn, initializer=_end_at_ctrl_c) as pool:
            yield from pool.map(function, tasks)


def _end_at_ctrl_c() -> None:
    """Let Ctrl-C end this process without a traceback. The process that started it reports the end."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
