"""Independent tasks, run side by side."""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Protocol, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

_WORTHWHILE = 8
"""Tasks that a process must get to make up for its start, of some seconds where it imports TensorFlow."""


class TaskRunner(Protocol):
    """Runs a function of a module on each task; gives the results in the order of the tasks."""

    def __call__(self, function: Callable[[Job], Result], tasks: Sequence[Job]) -> Iterable[Result]:
        """The results, as they come."""


class Processes:
    """Runs tasks in processes of their own, or here where one is enough.

    Args:
        count: How many at a time; by default one a core, as long as each gets `_WORTHWHILE` tasks.
    """

    def __init__(self, count: int | None = None) -> None:
        self._count = count

    def __call__(self, function: Callable[[Job], Result], tasks: Sequence[Job]) -> Iterator[Result]:
        """The results, as they come."""
        count = self._count or min(os.cpu_count() or 1, len(tasks) // _WORTHWHILE)
        count = min(count, len(tasks))
        if count < 2:
            yield from map(function, tasks)
            return
        # A fork of a process with threads, TensorFlow's among them, may hang.
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(count, mp_context=spawn) as pool:
            yield from pool.map(function, tasks)
