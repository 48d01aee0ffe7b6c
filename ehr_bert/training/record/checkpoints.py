"""Checkpoints: all that a training needs to go on as if it had never stopped.

That is the weights, and the optimizer with the number of updates: the place in the examples follows from it.
They are copied to the host's memory, and written by a thread while the training goes on. TensorFlow writes a
checkpoint aside and renames it; the file `checkpoint`, which names the newest, is written last.

The variables are named here, `model/encoder/block_0/...` and `optimizer/...`, and not by TensorFlow, which
can't see into a Keras layer's lists. `tf.train.load_checkpoint` reads them.
"""

import json
import os
import re
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ehr_bert.errors import UserError
from ehr_bert.files import atomic_files
from ehr_bert.model.pretraining import PretrainingModel
from ehr_bert.training.record.writing import writing
from ehr_bert.weights.checkpoint_files import read_checkpoint, write_checkpoint

CHECKPOINT_NAME = "model.ckpt"
NEWEST, BEST = "checkpoint", "best"
"""Files that name a checkpoint each: the newest, and the one with the lowest held-out loss."""

MARKS = re.compile(r"best|phase-\d+")
"""Files that name a checkpoint which is kept: the best, and those at the end of phases."""


def phase_mark(number: int) -> str:
    """The file that names the checkpoint at the end of a phase, counted from 1."""
    return f"phase-{number}"


FIRST_WEIGHTS = phase_mark(0)
"""The file that names the checkpoint before the first update, where a phase begins with it anew."""


def _weights(model: PretrainingModel) -> dict[str, Any]:
    return {f"model/{variable.path.partition('/')[2]}": variable for variable in model.trainable_variables}


def _optimizer_state(optimizer: keras.optimizers.Optimizer) -> dict[str, Any]:
    return {f"optimizer/{variable.name}": variable for variable in optimizer.variables}


class Checkpoints:
    """The checkpoints `model.ckpt-<step>` of a training folder: the newest few, and the marked ones.

    Within a `with` block they are written by a thread, one at a time. An error of the thread is raised by the
    next call, or at the block's end.
    """

    def __init__(
        self,
        folder: Path,
        model: PretrainingModel,
        optimizer: keras.optimizers.Optimizer,
        keep: int,
        writes: bool = True,
    ):
        """Names the checkpoints.

        Args:
            folder: The training folder.
            model: The model.
            optimizer: Built for the model's variables.
            keep: How many of the newest are kept.
            writes: Whether this process writes: of several workers one does, and all read.
        """
        self._folder = folder
        self._weights = _weights(model)
        self._variables = self._weights | _optimizer_state(optimizer)
        self._iterations = optimizer.iterations
        self._keep = keep
        self._writes = writes
        self._steps = _steps_named(folder)
        self._marked = _marked_steps(folder)
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._jobs: list[Future[None]] = []

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown()
        if error is None:
            self._wait()

    def restore(self) -> tuple[int, dict[str, float]]:
        """Brings back the newest checkpoint, if there is one.

        Returns:
            The number of updates made so far, and the `state` it was saved with.

        Raises:
            UserError: it is of another model or optimizer, or damaged.
        """
        if not has_checkpoint(self._folder):
            return 0, {}
        prefix = newest_checkpoint(self._folder)
        values = read_checkpoint(prefix, lambda name: True)
        state = {name: float(values.pop(name)) for name in list(values) if name.startswith("state/")}
        _assign(self._variables, values, prefix, "it must be of this training")
        return int(self._iterations.numpy()), {name.removeprefix("state/"): state[name] for name in state}

    def save(self, step: int, state: Mapping[str, float]) -> None:
        """Copies all variables, and has them written under the number `step`, with numbers of the caller's.

        Raises:
            UserError: the checkpoint before couldn't be written.
        """
        if not self._writes:
            return
        self._wait()
        values = {name: variable.numpy() for name, variable in self._variables.items()}
        values |= {f"state/{name}": np.array(value, np.float64) for name, value in state.items()}
        self._do(lambda: self._write(step, values))

    def mark(self, name: str, step: int) -> None:
        """Gives the checkpoint of that step, saved before, a name, one of `MARKS`, by which it is kept."""
        if self._writes:
            self._do(lambda: self._mark(name, step))

    def restore_weights(self, name: str) -> None:
        """Brings back the weights of the checkpoint of that name.

        Raises:
            UserError: it is not there, or damaged.
        """
        self._wait()
        _load(self._weights, newest_checkpoint(self._folder / name))

    def _do(self, job: Callable[[], None]) -> None:
        self._jobs.append(self._thread.submit(job))

    def _wait(self) -> None:
        while self._jobs:
            self._jobs.pop(0).result()

    def _write(self, step: int, values: dict[str, np.ndarray]) -> None:
        prefix = self._folder / f"{CHECKPOINT_NAME}-{step}"
        with writing(f"checkpoint {prefix}", "make room and run again: the checkpoint before it is whole"):
            for leftover in self._folder.glob(f"{CHECKPOINT_NAME}-*.tempstate*"):
                leftover.unlink()
            write_checkpoint(prefix, values)
            for file in _files(prefix):
                with open(file, "rb") as opened:
                    os.fsync(opened.fileno())
            self._steps = [other for other in self._steps if other != step] + [step]
            self._remove_all_but(self._steps[-self._keep :])

    def _mark(self, name: str, step: int) -> None:
        with writing(self._folder / name):
            _name(self._folder / name, [step])
            self._marked[name] = step
            self._remove_all_but(self._steps[-self._keep :])

    def _remove_all_but(self, newest: list[int]) -> None:
        """Keeps `newest` and the marked ones, named before others are removed."""
        kept = {*newest, *self._marked.values()}
        removed = [step for step in self._steps if step not in kept]
        self._steps = [step for step in self._steps if step not in removed]
        _name(self._folder / NEWEST, self._steps)
        for step in removed:
            for file in _files(self._folder / f"{CHECKPOINT_NAME}-{step}"):
                file.unlink()


def _files(prefix: Path) -> list[Path]:
    return sorted(prefix.parent.glob(f"{prefix.name}.*"))


def _name(file: Path, steps: list[int]) -> None:
    """Writes a file as TensorFlow does: all checkpoints by age, the last as the one that counts."""
    names = [json.dumps(f"{CHECKPOINT_NAME}-{step}") for step in steps]
    lines = [
        f"model_checkpoint_path: {names[-1]}",
        *(f"all_model_checkpoint_paths: {name}" for name in names),
    ]
    with atomic_files(file) as (temporary,):
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _steps_named(folder: Path) -> list[int]:
    """The steps of the checkpoints that `_name` named and that are there, by age."""
    named = tf.train.get_checkpoint_state(str(folder))
    prefixes = [*named.all_model_checkpoint_paths, named.model_checkpoint_path] if named else []
    there = [step_of(prefix) for prefix in prefixes if Path(f"{prefix}.index").exists()]
    return list(dict.fromkeys(there))


def _marked_steps(folder: Path) -> dict[str, int]:
    """The steps of the checkpoints that are marked and that are there, by the marks' names."""
    names = [path.name for path in folder.glob("*") if MARKS.fullmatch(path.name)]
    prefixes = {name: tf.train.latest_checkpoint(str(folder), latest_filename=name) for name in names}
    return {name: step_of(prefix) for name, prefix in prefixes.items() if prefix}


def _assign(variables: dict[str, Any], values: dict[str, np.ndarray], prefix: str, mend: str) -> None:
    """Sets all variables, or none."""
    odd = sorted(variables.keys() ^ values.keys())
    if odd:
        raise UserError(
            f"{prefix} holds {len(values)} variables, the recipe asks for {len(variables)}: "
            f"{odd[0]} is on one side alone ({mend})"
        )
    for name, variable in variables.items():
        if tuple(variable.shape) != values[name].shape:
            raise UserError(
                f"{prefix} holds {name} of shape {list(values[name].shape)}, the recipe asks for "
                f"{list(variable.shape)} ({mend})"
            )
    for name, variable in variables.items():
        variable.assign(values[name])


def has_checkpoint(folder: Path) -> bool:
    """Whether a training folder holds a checkpoint to go on from."""
    return tf.train.latest_checkpoint(str(folder)) is not None


def newest_checkpoint(path: Path) -> str:
    """The prefix of the checkpoint that `path` stands for.

    Args:
        path: A training folder, for its newest checkpoint; `folder/best`, for its best one, or
            `folder/phase-1`, for that at the end of a phase; or the prefix `folder/model.ckpt-<step>` itself.

    Raises:
        UserError: there is none.
    """
    if Path(f"{path}.index").exists():
        return str(path)
    prefix = None
    if path.is_dir():
        prefix = tf.train.latest_checkpoint(str(path))
    elif MARKS.fullmatch(path.name) and path.is_file():
        prefix = tf.train.latest_checkpoint(str(path.parent), latest_filename=path.name)
    if prefix is None:
        raise UserError(
            f"{path} holds no checkpoint: name a training folder, its best, a phase-<number> or a "
            "model.ckpt-<step> in it"
        )
    return prefix


def step_of(prefix: str) -> int:
    """The number of updates behind the checkpoint `.../model.ckpt-<step>`."""
    return int(prefix.rpartition("-")[2])


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """The weights of a checkpoint, by their names below the model's own.

    Args:
        path: As in `newest_checkpoint`.

    Raises:
        UserError: there is no checkpoint, or it is damaged.
    """
    values = read_checkpoint(newest_checkpoint(path), lambda name: name.startswith("model/"))
    return {name.removeprefix("model/"): value for name, value in values.items()}


def load_weights(model: PretrainingModel, path: Path) -> str:
    """Sets the weights of `model` to those of a checkpoint; returns the checkpoint's prefix.

    Args:
        model: A model of the same shape.
        path: As in `newest_checkpoint`.

    Raises:
        UserError: there is no checkpoint, or its shapes aren't the model's.
    """
    prefix = newest_checkpoint(path)
    _load(_weights(model), prefix)
    return prefix


def _load(weights: dict[str, Any], prefix: str) -> None:
    values = read_checkpoint(prefix, lambda name: name.startswith("model/"))
    _assign(weights, values, prefix, "it must be one of this program's, of the same shape")
