"""TensorFlow checkpoint files: arrays by name, in `prefix.index` and `prefix.data-*`."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tensorflow as tf

from ehr_bert.errors import UserError


def checkpoint_shapes(prefix: str | Path) -> dict[str, list[int]]:
    """Return the shape of each array in a checkpoint, by name.

    Raises:
        UserError: The checkpoint is missing or damaged (key `unreadable-checkpoint`).
    """
    with _reading(prefix):
        return tf.train.load_checkpoint(str(prefix)).get_variable_to_shape_map()


def read_checkpoint(prefix: str | Path, wanted: Callable[[str], bool]) -> dict[str, np.ndarray]:
    """Return the arrays of a checkpoint by name.

    Args:
        prefix: Prefix of the checkpoint.
        wanted: Returns whether to read the array with a given name.

    Raises:
        UserError: The checkpoint is missing or damaged (key `unreadable-checkpoint`).
    """
    with _reading(prefix):
        reader = tf.train.load_checkpoint(str(prefix))
        return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map() if wanted(name)}


def write_checkpoint(prefix: str | Path, values: Mapping[str, np.ndarray]) -> None:
    """Write a checkpoint that TensorFlow 1 and 2 read by name."""
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(values),
        shape_and_slices=[""] * len(values),
        tensors=list(values.values()),
    )


@contextmanager
def _reading(prefix: str | Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            "unreadable-checkpoint", f"{prefix} cannot be read: {reason}. Use another checkpoint."
        ) from error
