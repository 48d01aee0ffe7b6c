"""TensorFlow's checkpoint files: arrays by name, `prefix.index` and `prefix.data-*`."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tensorflow as tf

from ehr_bert.errors import UserError


def checkpoint_shapes(prefix: str | Path) -> dict[str, list[int]]:
    """The names in a checkpoint, and their arrays' shapes.

    Raises:
        UserError: it is missing or damaged.
    """
    with _reading(prefix):
        return tf.train.load_checkpoint(str(prefix)).get_variable_to_shape_map()


def read_checkpoint(prefix: str | Path, wanted: Callable[[str], bool]) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint under their names.

    Args:
        prefix: The checkpoint.
        wanted: Whether an array of that name is to be read.

    Raises:
        UserError: it is missing or damaged.
    """
    with _reading(prefix):
        reader = tf.train.load_checkpoint(str(prefix))
        return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map() if wanted(name)}


def write_checkpoint(prefix: str | Path, values: Mapping[str, np.ndarray]) -> None:
    """Writes a checkpoint that programs of TensorFlow 1 and 2 read by the names in it."""
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
        raise UserError(f"{prefix} can't be read: {reason} (name another checkpoint)") from error
