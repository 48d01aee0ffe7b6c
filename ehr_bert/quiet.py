"""Third-party libraries without log lines and progress bars that mean nothing to a user."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def import_tensorflow() -> None:
    """Import TensorFlow without its log lines. Exceptions are raised as usual.

    The import writes to the stderr of the process, such as lines about oneDNN, whatever the log level is.
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


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hide the progress bars and warnings of Transformers in a block that reads or writes a model.

    The bars are `Loading weights` and `Writing model shards`. The warnings list weights that a model class
    does not use, such as the pretraining heads when only the encoder is loaded.
    """
    from transformers.utils import logging

    verbosity, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bars:
            logging.enable_progress_bar()
