"""Processes that work together: started, told to stop, waited for, and never left behind."""

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
"""Processes whose fellow has failed have so long to end by themselves."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Process:
    """A process to start.

    Attributes:
        command: The program and its arguments.
        environment: Variables beside those of this process.
        log: The file that its output is appended to; it goes where this process's goes if None.
    """

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    log: Path | None = None


def run_together(processes: Sequence[Process]) -> int:
    """Runs processes side by side until all have ended.

    SIGTERM and Ctrl-C are passed on to all. If one fails, those that still wait for it are killed.

    Returns:
        The exit status: 75 if any was told to stop and saved its state, else that of the first that failed;
        128 and the signal's number where a signal ended it.
    """
    started: list[subprocess.Popen] = []
    with _passing_signals_on(started), ExitStack() as files:
        try:
            for process in processes:
                output = files.enter_context(open(process.log, "ab")) if process.log else None
                started.append(
                    subprocess.Popen(
                        process.command,
                        env={**os.environ, **process.environment},
                        stdout=output,
                        stderr=subprocess.STDOUT if output else None,
                        # A terminal's Ctrl-C must come once, from here.
                        start_new_session=True,
                    )
                )
            return _waited_for(started)
        finally:
            for each in started:
                each.kill()
                each.wait()


@contextmanager
def _passing_signals_on(started: Sequence[subprocess.Popen]) -> Iterator[None]:
    def pass_on(number: int, frame: FrameType | None) -> None:
        for process in started:
            process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _waited_for(started: Sequence[subprocess.Popen]) -> int:
    """Waits until all have ended, or one has failed and the others had time to end; the exit status."""
    going_on = (None, os.EX_OK, os.EX_TEMPFAIL)
    while all(process.poll() in going_on for process in started):
        codes = [process.returncode for process in started]
        if None not in codes:
            return max(codes)
        time.sleep(_POLL_SECONDS)
    failed = next(process.returncode for process in started if process.returncode not in going_on)
    latest = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < latest and any(process.poll() is None for process in started):
        time.sleep(_POLL_SECONDS)
    return failed if failed > 0 else 128 - failed
