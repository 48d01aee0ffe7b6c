"""Checkpoints: everything that a training run needs to resume with the result of an uninterrupted run.

A checkpoint contains the weights, and the optimizer with the number of updates, which determines the
position in the examples. The values are copied to host memory and written by a thread while training
continues. TensorFlow writes a checkpoint to a temporary file and renames it. The file `checkpoint`, which
names the newest one, is written last.

The names `model/encoder/block_0/...` and `optimizer/...` are assigned here because TensorFlow does not track
the lists of a Keras layer. `tf.train.load_checkpoint` reads them.
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
from ehr_bert.weights.names import is_additional_head

CHECKPOINT_NAME = "model.ckpt"
NEWEST, BEST = "checkpoint", "best"
"""Files that name the newest checkpoint and the one with the lowest held-out loss."""

MARKS = re.compile(r"best|phase-\d+")
"""Marks: files that name a checkpoint to keep, which is the best one or the last one of a phase."""


def phase_mark(number: int) -> str:
    """Return the name of the mark at the end of phase `number`, counted from 1."""
    return f"phase-{number}"


FIRST_WEIGHTS = phase_mark(0)
"""Mark of the checkpoint before the first update, for a phase that starts from the initial weights."""


def _weights(model: PretrainingModel) -> dict[str, Any]:
    return {f"model/{variable.path.partition('/')[2]}": variable for variable in model.trainable_variables}


def _optimizer_state(optimizer: keras.optimizers.Optimizer) -> dict[str, Any]:
    return {f"optimizer/{variable.name}": variable for variable in optimizer.variables}


class Checkpoints:
    """Checkpoints `model.ckpt-<step>` of a training folder: the newest few and the marked ones.

    Within a `with` block a thread writes them, one at a time. An error of the thread is raised by the next
    call or at the end of the block.

    Args:
        folder: Training folder.
        model: Model.
        optimizer: Optimizer, built for the variables of the model.
        keep: Number of newest checkpoints to keep.
        writes: Whether this process writes. Of several workers one writes, and all read.
    """

    def __init__(
        self,
        folder: Path,
        model: PretrainingModel,
        optimizer: keras.optimizers.Optimizer,
        keep: int,
        writes: bool = True,
    ):
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
        """Restore the newest checkpoint, if there is one.

        Returns:
            The number of updates so far, and the `state` that was saved with it.

        Raises:
            UserError: The checkpoint is damaged (key `unreadable-checkpoint`) or belongs to another model or
                optimizer (`checkpoint-mismatch`).
        """
        if not has_checkpoint(self._folder):
            return 0, {}
        prefix = newest_checkpoint(self._folder)
        values = read_checkpoint(prefix, lambda name: True)
        state = {name: float(values.pop(name)) for name in list(values) if name.startswith("state/")}
        _assign(
            self._variables,
            values,
            prefix,
            "Use a checkpoint of this training run, or choose another --output.",
        )
        return int(self._iterations.numpy()), {name.removeprefix("state/"): state[name] for name in state}

    def save(self, step: int, state: Mapping[str, float]) -> None:
        """Copy all variables and write them as checkpoint `step`, together with `state`.

        Raises:
            UserError: The previous checkpoint could not be written (key `cannot-write`).
        """
        if not self._writes:
            return
        self._wait()
        values = {name: variable.numpy() for name, variable in self._variables.items()}
        values |= {f"state/{name}": np.array(value, np.float64) for name, value in state.items()}
        self._submit(lambda: self._write(step, values))

    def mark(self, name: str, step: int) -> None:
        """Mark the saved checkpoint of `step`, so that it is kept. `name` is one of `MARKS`."""
        if self._writes:
            self._submit(lambda: self._mark(name, step))

    def restore_weights(self, name: str) -> None:
        """Restore the weights of the checkpoint with the mark `name`.

        Raises:
            UserError: The checkpoint is missing (key `no-checkpoint`) or damaged (`unreadable-checkpoint`).
        """
        self._wait()
        _load(self._weights, newest_checkpoint(self._folder / name))

    def _submit(self, job: Callable[[], None]) -> None:
        self._jobs.append(self._thread.submit(job))

    def _wait(self) -> None:
        while self._jobs:
            self._jobs.pop(0).result()

    def _write(self, step: int, values: dict[str, np.ndarray]) -> None:
        prefix = self._folder / f"{CHECKPOINT_NAME}-{step}"
        with writing(f"checkpoint {prefix}", "The previous checkpoint is valid. Free disk space and resume."):
            for leftover in self._folder.glob(f"{CHECKPOINT_NAME}-*.tempstate*"):
                leftover.unlink()
            write_checkpoint(prefix, values)
            for file in _files(prefix):
                with open(file, "rb") as data:
                    os.fsync(data.fileno())
            self._steps = [other for other in self._steps if other != step] + [step]
            self._remove_all_but(self._steps[-self._keep :])

    def _mark(self, name: str, step: int) -> None:
        with writing(self._folder / name):
            _name(self._folder / name, [step])
            self._marked[name] = step
            self._remove_all_but(self._steps[-self._keep :])

    def _remove_all_but(self, newest: list[int]) -> None:
        """Remove all checkpoints except `newest` and the marked ones, after `checkpoint` lists the others."""
        steps_to_keep = {*newest, *self._marked.values()}
        removed = [step for step in self._steps if step not in steps_to_keep]
        self._steps = [step for step in self._steps if step not in removed]
        _name(self._folder / NEWEST, self._steps)
        for step in removed:
            for file in _files(self._folder / f"{CHECKPOINT_NAME}-{step}"):
                file.unlink()


def _files(prefix: Path) -> list[Path]:
    return sorted(prefix.parent.glob(f"{prefix.name}.*"))


def _name(file: Path, steps: list[int]) -> None:
    """Write a file as TensorFlow does: all checkpoints by age, of which the last one is current."""
    names = [json.dumps(f"{CHECKPOINT_NAME}-{step}") for step in steps]
    lines = [
        f"model_checkpoint_path: {names[-1]}",
        *(f"all_model_checkpoint_paths: {name}" for name in names),
    ]
    with atomic_files(file) as (temporary,):
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _named_in(file: Path) -> str | None:
    """Return the prefix of the current checkpoint that a file such as `checkpoint` names, if it exists.

    `tf.train.latest_checkpoint` would take `[`, `*` and `?` in the path for wildcards.
    """
    named = tf.train.get_checkpoint_state(str(file.parent), file.name)
    prefix = named.model_checkpoint_path if named else None
    return prefix if prefix and any(Path(f"{prefix}{end}").exists() for end in (".index", "")) else None


def _steps_named(folder: Path) -> list[int]:
    """Return the steps of the existing checkpoints that `_name` named, by age."""
    named = tf.train.get_checkpoint_state(str(folder))
    prefixes = [*named.all_model_checkpoint_paths, named.model_checkpoint_path] if named else []
    steps = [step_of(prefix) for prefix in prefixes if Path(f"{prefix}.index").exists()]
    return list(dict.fromkeys(steps))


def _marked_steps(folder: Path) -> dict[str, int]:
    """Return the steps of the existing marked checkpoints, by mark."""
    names = [path.name for path in folder.glob("*") if MARKS.fullmatch(path.name)]
    prefixes = {name: _named_in(folder / name) for name in names}
    return {name: step_of(prefix) for name, prefix in prefixes.items() if prefix}


def _assign(variables: dict[str, Any], values: dict[str, np.ndarray], prefix: str, fix: str) -> None:
    """Set all variables, or none if the values do not fit."""
    unmatched = sorted(variables.keys() ^ values.keys())
    if unmatched:
        raise UserError(
            "checkpoint-mismatch",
            f"{prefix} has {len(values)} variables and the model of the recipe {len(variables)}: only one of "
            f"them has {unmatched[0]}. {fix}",
        )
    for name, variable in variables.items():
        if tuple(variable.shape) != values[name].shape:
            raise UserError(
                "checkpoint-mismatch",
                f"{prefix} has {name} with shape {list(values[name].shape)}, but the model of the recipe has "
                f"shape {list(variable.shape)}. {fix}",
            )
    for name, variable in variables.items():
        variable.assign(values[name])


def has_checkpoint(folder: Path) -> bool:
    """Return whether a training folder has a checkpoint to resume from."""
    return _named_in(folder / NEWEST) is not None


def newest_checkpoint(path: Path) -> str:
    """Return the prefix of the checkpoint that `path` names.

    Args:
        path: A training folder, for its newest checkpoint; `folder/best` for its best one; `folder/phase-1`
            for the one at the end of a phase; or a prefix `folder/model.ckpt-<step>`.

    Raises:
        UserError: There is none (key `no-checkpoint`).
    """
    if Path(f"{path}.index").exists():
        return str(path)
    prefix = None
    if path.is_dir():
        prefix = _named_in(path / NEWEST)
    elif MARKS.fullmatch(path.name) and path.is_file():
        prefix = _named_in(path)
    if prefix is None:
        raise UserError(
            "no-checkpoint",
            f"{path} has no checkpoint. Name a training folder, or best, phase-<number> or model.ckpt-<step> "
            "in one.",
        )
    return prefix


def step_of(prefix: str) -> int:
    """Return the number of updates of the checkpoint `.../model.ckpt-<step>`."""
    return int(prefix.rpartition("-")[2])


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Return the weights of a checkpoint by name, without the prefix `model/`.

    Args:
        path: As in `newest_checkpoint`.

    Raises:
        UserError: There is no checkpoint (key `no-checkpoint`), or it is damaged (`unreadable-checkpoint`).
    """
    values = read_checkpoint(newest_checkpoint(path), lambda name: name.startswith("model/"))
    return {name.removeprefix("model/"): value for name, value in values.items()}


def load_weights(model: PretrainingModel, path: Path) -> str:
    """Load the weights of a checkpoint into `model`, and return the prefix of the checkpoint.

    Args:
        model: A model of the same shape.
        path: As in `newest_checkpoint`.

    Raises:
        UserError: There is no checkpoint (key `no-checkpoint`), it is damaged (`unreadable-checkpoint`), or
            it has other shapes (`checkpoint-mismatch`).
    """
    prefix = newest_checkpoint(path)
    _load(_weights(model), prefix)
    return prefix


def _load(weights: dict[str, Any], prefix: str) -> None:
    def is_read(name: str) -> bool:
        """Return whether a variable is read. Further heads are, if the model has them."""
        return name in weights or (
            name.startswith("model/") and not is_additional_head(name.removeprefix("model/"))
        )

    values = read_checkpoint(prefix, is_read)
    _assign(weights, values, prefix, "Use a checkpoint of this program with the same shape.")
