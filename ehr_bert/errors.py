"""Errors that the user can fix, each with a stable key and a one-line message."""

from typing import Self


class UserError(Exception):
    """An error that the user can fix.

    The commands print it as one line, without a traceback, and exit with status 1. The key never changes, so
    that tests, scripts and search engines can rely on it while the wording improves.

    Args:
        key: Stable identifier in lower case with hyphens, such as `unknown-contender`.
        message: One line that says what is wrong, where, and how to fix it.

    Example:
        >>> print(UserError("empty-folder", "data/ is empty. Choose another folder."))
        data/ is empty. Choose another folder. [empty-folder]
    """

    ag_pass_through = True
    """Makes TensorFlow raise the error unchanged where it traces a function."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(key, message)
        self.key = key
        self.message = message

    def prefixed(self, prefix: str) -> Self:
        """Return the error with `prefix` before its message, such as the file with the wrong value."""
        return type(self)(self.key, f"{prefix}{self.message}")

    def __str__(self) -> str:
        return f"{self.message} [{self.key}]"


def error_line(error: UserError | OSError) -> str:
    """Return the line to print for an error, also for errors of the operating system on files."""
    if isinstance(error, OSError) and (path := error.filename2 or error.filename):
        return f"cannot read or write {path}: {error.strerror}. Choose another path. [os-error]"
    return str(error)
