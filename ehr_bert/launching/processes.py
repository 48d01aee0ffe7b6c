"""Groups of processes that are started, interrupted and awaited together."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

GRACE_SECONDS = 10.0
"""Time that the other processes have to end after one has failed."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Process:
    """A process to start.

    Attributes:
        command: Program and arguments.
        environment: Environment variables in addition to those of this process.
        log: File that its output is appended to. If None, the output of this process is used.
    """

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    log: Path | None = None


def run_together(processes: Sequence[Process]) -> int:
    """Run processes in parallel until all have ended.

    SIGTERM and Ctrl-C are forwarded to all. If one fails, the others are killed after `GRACE_SECONDS`.

    Returns:
        The exit status: 75 if a process was interrupted and saved its state, else the status of the first
        failed process, or 128 plus the number of the signal that killed it.
    """
    started: list[subprocess.Popen] = []
    with _forwarded_signals(started), ExitStack() as files:
        try:
            for process in processes:
                output = files.enter_context(open(process.log, "ab")) if process.log else None
                started.append(
                    subprocess.Popen(
                        process.command,
                        env={**os.environ, **process.environment},
                        stdout=output,
                        stderr=subprocess.STDOUT if output else None,
                        # Ctrl-C must reach the process once, forwarded from here.
                        start_new_session=True,
                    )
                )
            return _wait_for(started)
        finally:
            for child in started:
                child.kill()
                child.wait()


@contextmanager
def _forwarded_signals(started: Sequence[subprocess.Popen]) -> Iterator[None]:
    def forward(number: int, frame: FrameType | None) -> None:
        for process in started:
            process.send_signal(number)

    previous = {number: signal.signal(number, forward) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _wait_for(started: Sequence[subprocess.Popen]) -> int:
    """Wait until all have ended, or one has failed and the others had time to end. Return the exit status."""
    not_failed = (None, os.EX_OK, os.EX_TEMPFAIL)
    while all(process.poll() in not_failed for process in started):
        codes = [process.returncode for process in started]
        if None not in codes:
            return max(codes)
        time.sleep(_POLL_SECONDS)
    failed = next(process.returncode for process in started if process.returncode not in not_failed)
    deadline = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < deadline and any(process.poll() is None for process in started):
        time.sleep(_POLL_SECONDS)
    return failed if failed > 0 else 128 - failed
