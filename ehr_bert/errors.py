"""The one exception that is meant for the person at the keyboard, and the line that tells of a fault."""


class UserError(Exception):
    """A fault that the user can mend.

    Its message is one line that says what is wrong, where, and the mend; the commands print it without
    a traceback and exit with status 1.
    """


def fault_line(error: UserError | OSError) -> str:
    """The line that tells of a fault: the user's, or that of a disk, a folder or its permissions."""
    if isinstance(error, OSError) and (place := error.filename2 or error.filename):
        return f"{place} can't be written or read: {error.strerror}: name another place"
    return str(error)
