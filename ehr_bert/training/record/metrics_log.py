"""The log of metrics by step: lines of `metrics.jsonl` and TensorBoard events."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from ehr_bert.files import atomic_files
from ehr_bert.training.record.folder import TrainingFolder
from ehr_bert.training.record.writing import writing


def read_metrics(folder: TrainingFolder) -> list[dict[str, Any]]:
    """Return the complete lines of `metrics.jsonl`. An incomplete last line is ignored."""
    if not folder.metrics_file.exists():
        return []
    lines = folder.metrics_file.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


class MetricsLog:
    """The metrics log of a training folder.

    Args:
        folder: Training folder.
        writes: Whether this process writes. Of several workers one writes, and all read.

    Attributes:
        losses: Held-out loss by the step of its evaluation.
        reports: Steps with a training report.
    """

    def __init__(self, folder: TrainingFolder, writes: bool = True):
        self._folder = folder
        self._writes = writes
        self.losses: dict[int, float] = {}
        self.reports: set[int] = set()
        self._add(read_metrics(folder))
        if writes:
            with writing(folder.events):
                self._events = tf.summary.create_file_writer(str(folder.events))

    def truncate_after(self, step: int) -> None:
        """Remove the lines after `step` and an incomplete last line.

        The log of a resumed training run then equals that of an uninterrupted one.
        """
        self.losses, self.reports = {}, set()
        lines = [line for line in read_metrics(self._folder) if line["step"] <= step]
        self._add(lines)
        if self._writes:
            file = self._folder.metrics_file
            with writing(file), atomic_files(file) as (temporary,):
                temporary.write_text("".join(map(_line, lines)), encoding="utf-8")

    def write(self, step: int, prefix: str, metrics: Mapping[str, float]) -> None:
        """Add metrics by name, with a prefix: `train/...` or `eval/...`.

        Raises:
            UserError: The file cannot be written (key `cannot-write`).
        """
        named = {f"{prefix}/{name}": value for name, value in metrics.items()}
        line = {"step": step, **named}
        self._add([line])
        if not self._writes:
            return
        with self._written_events():
            for name, value in named.items():
                tf.summary.scalar(name, value, step=step)
        path = self._folder.metrics_file
        with writing(path), open(path, "a", encoding="utf-8") as file:
            file.write(_line(line))

    def histograms(self, step: int, tensors: Mapping[str, np.ndarray]) -> None:
        """Write histograms of tensor values for TensorBoard."""
        if self._writes:
            with self._written_events():
                for name, values in tensors.items():
                    tf.summary.histogram(name, values, step=step)

    def best_step(self) -> int | None:
        """Return the step with the lowest held-out loss, the first one in case of ties."""
        return min(self.losses, key=lambda step: (self.losses[step], step), default=None)

    def evaluations_since_best(self) -> int:
        """Return the number of evaluations after the one with the lowest loss."""
        best = self.best_step()
        return sum(step > best for step in self.losses) if best is not None else 0

    def _add(self, lines: Iterable[Mapping[str, Any]]) -> None:
        self.losses |= {line["step"]: line["eval/loss"] for line in lines if "eval/loss" in line}
        self.reports |= {line["step"] for line in lines if "train/seconds" in line}

    @contextmanager
    def _written_events(self) -> Iterator[None]:
        with writing("TensorBoard events"), self._events.as_default():
            yield
            self._events.flush()


def _line(values: Mapping[str, Any]) -> str:
    return json.dumps(values) + "\n"
