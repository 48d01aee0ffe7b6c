"""Log output of the commands. Library modules only call `logging.getLogger(__name__)`."""

import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING, Any, TextIO

from ehr_bert.errors import UserError

if TYPE_CHECKING:
    from tqdm import tqdm


class Verbosity(IntEnum):
    """How much a command reports, as a logging level."""

    QUIET = logging.WARNING
    NORMAL = logging.INFO
    VERBOSE = logging.DEBUG


class _StderrHandler(logging.StreamHandler):
    """Handler that writes to the current `sys.stderr`, which tests and notebooks replace."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stderr


class _Formatter(logging.Formatter):
    """Formatter of bare messages. Warnings start with their level and end with their key, like errors."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        if record.levelno < logging.WARNING:
            return message
        key = getattr(record, "key", None)
        return f"{record.levelname.lower()}: {message}" + (f" [{key}]" if key else "")


def configure_logging(verbosity: int = Verbosity.NORMAL) -> None:
    """Send the log messages of the library to standard error. Calling it again changes the verbosity."""
    logger = logging.getLogger("ehr_bert")
    if configured_verbosity() is None:
        handler = _StderrHandler()
        handler.setFormatter(_Formatter())
        logger.addHandler(handler)
    logger.setLevel(verbosity)


def configured_verbosity() -> int | None:
    """Return the logging level of the library, with which another process is configured alike.

    Returns:
        The level; None if `configure_logging` was not called in this process.
    """
    logger = logging.getLogger("ehr_bert")
    is_configured = any(isinstance(handler, _StderrHandler) for handler in logger.handlers)
    return logger.level if is_configured else None


@contextmanager
def log_level(level: int | None) -> Iterator[None]:
    """Within the block, the library logs only messages of at least `level`. None changes nothing."""
    logger = logging.getLogger("ehr_bert")
    before = logger.level
    logger.setLevel(before if level is None else level)
    try:
        yield
    finally:
        logger.setLevel(before)


def warn(logger: logging.Logger, key: str, message: str) -> None:
    """Log a warning with a stable key, such as `many-epochs`, that tests can check.

    Example:
        >>> warn(logging.getLogger("ehr_bert.example"), "many-epochs", "Each patient is seen 90 times.")
    """
    logger.warning(message, extra={"key": key})


def warn_of(logger: logging.Logger, error: UserError, prefix: str = "") -> None:
    """Log an error that does not stop the command as a warning with its key, after `prefix`."""
    logger.warning(f"{prefix}{error.message}", extra={"key": error.key})


def progress_bar(
    logger: logging.Logger, iterable: Iterable[Any] | None = None, **options: Any
) -> "tqdm[Any]":
    """Create a progress bar that `--quiet` hides.

    Args:
        logger: Logger of the module. Without its level INFO the bar is hidden.
        iterable: What the bar iterates over, if anything.
        options: Further options of `tqdm`.
    """
    from tqdm import tqdm

    if not logger.isEnabledFor(logging.INFO):
        options["disable"] = True
    return tqdm(iterable, **options)
