"""Importing TensorFlow without its log output."""

import os
import sys


def import_tensorflow() -> None:
    """Import TensorFlow and hide the log lines of its C++ libraries. Exceptions are still raised.

    The import writes to the standard error of the process regardless of the log level, so it is redirected.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    stderr = os.dup(2)
    null_device = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null_device, 2)
        import tensorflow  # noqa: F401
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null_device)
