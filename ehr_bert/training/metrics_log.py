"""Figures by step, as lines of `metrics.jsonl` and as TensorBoard's events."""

import json
from collections.abc import Mapping

import tensorflow as tf

from ehr_bert.training.folder import TrainingFolder


class MetricsLog:
    """The figures of a training folder, added to one step at a time."""

    def __init__(self, folder: TrainingFolder):
        self._lines = folder.metrics_file
        self._events = tf.summary.create_file_writer(str(folder.events))

    def cut_back(self, step: int) -> None:
        """Drops the lines after `step`, and a line that was cut off.

        So a training that was stopped and went on reads like one that ran through.
        """
        if self._lines.exists():
            lines = self._lines.read_text(encoding="utf-8").splitlines(keepends=True)
            whole = [line for line in lines if line.endswith("\n")]
            kept = [line for line in whole if json.loads(line)["step"] <= step]
            self._lines.write_text("".join(kept), encoding="utf-8")

    def write(self, step: int, kind: str, figures: Mapping[str, float]) -> None:
        """Adds figures under their names, each behind its kind: `train/...` or `eval/...`."""
        named = {f"{kind}/{name}": value for name, value in figures.items()}
        with self._events.as_default():
            for name, value in named.items():
                tf.summary.scalar(name, value, step=step)
        self._events.flush()
        with open(self._lines, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **named}) + "\n")
