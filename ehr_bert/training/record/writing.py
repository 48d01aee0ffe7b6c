"""Write errors as user errors."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

from ehr_bert.errors import UserError

FIX = "Free disk space or correct the permissions, and run again."


@contextmanager
def writing(name: object, fix: str = FIX) -> Iterator[None]:
    """Turn a full disk or an unwritable folder within the block into a `UserError`.

    Args:
        name: What is written, such as a path.
        fix: Last sentence of the message.

    Raises:
        UserError: The block could not write (key `cannot-write`).
    """
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        raise UserError("cannot-write", f"{name} cannot be written: {_reason(error)}. {fix}") from error


def _reason(error: OSError | tf.errors.OpError) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    first = error.message.splitlines()[0]
    return re.sub(r"^\{\{.*\}\} | \[Op:.*$", "", first)
