"""Faults of writing, told to who can mend them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

from ehr_bert.errors import UserError


@contextmanager
def writing(what: object, mend: str = "make room, or let it be written, and run again") -> Iterator[None]:
    """A block that writes `what`; a full disk or an unwritable folder is a `UserError` with its `mend`."""
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        raise UserError(f"{what} can't be written: {_reason(error)} ({mend})") from error


def _reason(error: OSError | tf.errors.OpError) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    first = error.message.splitlines()[0]
    return re.sub(r"^\{\{.*\}\} | \[Op:.*$", "", first)
