"""Exit statuses of the programs, and the entry point of tutorial programs with absl flags and TensorFlow."""

import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from ehr_bert.errors import UserError, error_line
from ehr_bert.logs import configure_logging
from ehr_bert.quiet import import_tensorflow

INTERNAL_ERROR, INTERRUPTED = 70, 130
"""Exit statuses after an error of the program (`EX_SOFTWARE` of BSD), and after Ctrl-C (128 + SIGINT)."""


def exit_status(program: str, main: Callable[[], None]) -> int:
    """Call `main`, and report every error as one line on standard error.

    The traceback of an unexpected error is written to a new file in the temporary folder, which only
    the user can read. SIGTERM, which batch systems send, and SIGHUP clean up as Ctrl-C does, unless `main`
    has its own rule for them.

    Args:
        program: Name of the program, which precedes the error.
        main: The function that does the work.

    Returns:
        0 after success, 1 after an error that the user can fix, `INTERRUPTED` after Ctrl-C, 128 plus the
        number of another signal (143 after SIGTERM), `INTERNAL_ERROR` after any other error.

    Example:
        >>> exit_status("example", lambda: None)
        0
    """
    received: list[signal.Signals] = []
    try:
        with _interrupted_by_signals(received):
            main()
        return 0
    except Exception as error:
        if not received:
            return _report_error(program, error)
    except KeyboardInterrupt:
        if not received:
            return _report(program, "interrupted. [interrupted]", INTERRUPTED)
    # A library may raise another error where a signal interrupts it.
    return _report(program, f"interrupted by {received[0].name}. [interrupted]", 128 + received[0])


@contextmanager
def _interrupted_by_signals(received: list[signal.Signals]) -> Iterator[None]:
    """Within the block, SIGTERM and SIGHUP raise `KeyboardInterrupt` and are added to `received`."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(signal.Signals(number))
        signal.signal(number, signal.SIG_IGN)  # Sent again, it must not interrupt the clean-up.
        raise KeyboardInterrupt

    before = {}
    if threading.current_thread() is threading.main_thread():  # Only this thread may handle signals.
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                before[number] = signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _report_error(program: str, error: Exception) -> int:
    if isinstance(error, UserError | OSError):
        return _report(program, error_line(error), 1)
    if isinstance(error, MemoryError):
        line = "the machine has not enough memory. Use a machine with more, or less data. [out-of-memory]"
        return _report(program, line, 1)
    line = f"an error in the program ({type(error).__name__}). {_saved(error)} [internal-error]"
    return _report(program, line, INTERNAL_ERROR)


def _report(program: str, line: str, status: int) -> int:
    print(f"{program}: {line}", file=sys.stderr)
    return status


def _saved(error: Exception) -> str:
    """Write the traceback to a file, and return the sentence that names it."""
    text = "".join(traceback.format_exception(error))
    try:
        descriptor, name = tempfile.mkstemp(prefix="ehr-bert-error-", suffix=".log")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as failure:
        return f"Its traceback cannot be saved: {failure.strerror}. Free disk space and run it again."
    return f"Report {name}, without the values of patients that it may contain."


def run_program(program: str, main: Callable[[], None]) -> None:
    """Parse the absl flags, call `main`, and exit with its `exit_status`.

    Args:
        program: File name of the program, which precedes the error.
        main: The function that does the work.
    """
    from absl import app, logging

    def run(_: list[str]) -> int:
        logging.set_verbosity(logging.WARNING)
        configure_logging()
        # absl adds a handler to the root logger, which would print the library's messages a second time.
        logging.get_absl_handler().addFilter(lambda record: not record.name.startswith("ehr_bert"))
        return exit_status(program, main_with_tensorflow)

    def main_with_tensorflow() -> None:
        import_tensorflow()
        main()

    app.run(run)
