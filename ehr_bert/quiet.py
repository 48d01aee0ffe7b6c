"""TensorFlow without its chatter."""

import os
import sys


def import_tensorflow() -> None:
    """Imports TensorFlow and hides what its C++ side logs; exceptions still come through.

    Its import writes to the process's stderr whatever its log level says.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    stderr = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        import tensorflow  # noqa: F401
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
