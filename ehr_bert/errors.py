"""The one exception that is meant for the person at the keyboard."""


class UserError(Exception):
    """A fault that the user can mend.

    Its message is one line that says what is wrong, where, and the mend; the commands print it without
    a traceback and exit with status 1.
    """
