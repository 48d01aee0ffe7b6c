"""Checkpoints: all that a training needs to go on as if it had never stopped.

That is the model, with the state of its dropout, and the optimizer, with the number of updates; the place in
the examples follows from the latter. TensorFlow writes a checkpoint aside, and names it the newest last.
"""

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from ehr_bert.errors import UserError
from ehr_bert.model.pretraining import PretrainingModel

CHECKPOINT_NAME = "model.ckpt"
KEPT = 5


def _weights(model: PretrainingModel) -> dict[str, Any]:
    """The weights as a tree of their paths. TensorFlow itself can't see into a Keras layer's lists."""
    tree: dict[str, Any] = {}
    for variable in model.trainable_variables:
        *branches, leaf = variable.path.split("/")[1:]
        branch = tree
        for name in branches:
            branch = branch.setdefault(name, {})
        branch[leaf] = variable.value
    return tree


def _dropout_states(model: PretrainingModel) -> list[Any]:
    return [variable.value for variable in model.non_trainable_variables]


class Checkpoints:
    """The checkpoints `model.ckpt-<step>` of a training folder; the newest five are kept."""

    def __init__(self, folder: Path, model: PretrainingModel, optimizer: keras.optimizers.Optimizer):
        self._optimizer = optimizer
        optimizer_state = {variable.name: variable.value for variable in optimizer.variables}
        self._checkpoint = tf.train.Checkpoint(
            model=_weights(model), dropout=_dropout_states(model), optimizer=optimizer_state
        )
        self._manager = tf.train.CheckpointManager(
            self._checkpoint, str(folder), max_to_keep=KEPT, checkpoint_name=CHECKPOINT_NAME
        )

    def restore(self) -> int:
        """Brings back the newest checkpoint, if there is one; returns the number of updates made so far."""
        if self._manager.latest_checkpoint:
            status = self._checkpoint.restore(self._manager.latest_checkpoint)
            status.assert_existing_objects_matched()
        return int(self._optimizer.iterations.numpy())

    def save(self, step: int) -> None:
        """Writes a checkpoint under the number `step`."""
        try:
            self._manager.save(checkpoint_number=step)
        except (OSError, tf.errors.OpError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"checkpoint {step} can't be written: {reason} (the one before is whole: run again)"
            ) from error


def has_checkpoint(folder: Path) -> bool:
    """Whether a training folder holds a checkpoint to go on from."""
    return tf.train.latest_checkpoint(str(folder)) is not None


def newest_checkpoint(path: Path) -> str:
    """The prefix of the newest checkpoint in a folder, or `path` itself if it is the prefix of one.

    Raises:
        UserError: there is none.
    """
    if Path(f"{path}.index").exists():
        return str(path)
    newest = tf.train.latest_checkpoint(str(path)) if path.is_dir() else None
    if newest is None:
        raise UserError(f"{path} holds no checkpoint: name a training folder, or a model.ckpt-<step> in one")
    return newest


def step_of(prefix: str) -> int:
    """The number of updates behind the checkpoint `.../model.ckpt-<step>`."""
    return int(prefix.rpartition("-")[2])


def load_weights(model: PretrainingModel, path: Path) -> str:
    """Sets the weights of `model` to those of a checkpoint; returns the checkpoint's prefix.

    Args:
        model: A model of the same shape.
        path: As in `newest_checkpoint`.

    Raises:
        UserError: there is no checkpoint, or its shapes aren't the model's.
    """
    prefix = newest_checkpoint(path)
    mend = "it must be one of this program's, of the same shape"
    try:
        stored = {name for name, _ in tf.train.list_variables(prefix) if name.startswith("model/")}
        if len(stored) != len(model.trainable_variables):
            raise UserError(
                f"{prefix} holds {len(stored)} weights, the model config asks for "
                f"{len(model.trainable_variables)}: {mend}"
            )
        status = tf.train.Checkpoint(model=_weights(model)).restore(prefix)
        status.assert_existing_objects_matched().expect_partial()
    except (ValueError, AssertionError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{prefix} doesn't fit the model config: {reason} ({mend})") from error
    return prefix
