"""Running independent tasks in parallel processes."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import resource_tracker
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
        others = multiprocessing.active_children()
        with ProcessPoolExecutor(count, mp_context=spawn, initializer=_start_worker) as pool:
            with _without_ctrl_c():
                futures = deque(pool.submit(function, task) for task in tasks)  # starts the processes
                workers = [process for process in multiprocessing.active_children() if process not in others]
            try:
                while futures:
                    yield futures.popleft().result()
            except (KeyboardInterrupt, GeneratorExit):  # here, or in the code that uses the results
                for process in workers:
                    process.terminate()
                wait(futures)
                raise
            finally:
                for future in futures:
                    future.cancel()


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Delay Ctrl-C until the end of the block, and until `_start_worker` in processes that it starts.

    Otherwise Ctrl-C would interrupt the start of Python there, which prints a traceback.
    """
    resource_tracker.ensure_running()  # It unblocks Ctrl-C when it starts.
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)


def _start_worker() -> None:
    """Leave Ctrl-C to the process that started this one, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    exit_with_parent()


def exit_with_parent() -> None:
    """End this process when the process that started it ends, also if that is killed."""

    def wait_and_exit() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=wait_and_exit, daemon=True).start()
