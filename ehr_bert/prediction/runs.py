"""One run of a grid: a contender at a training size under a seed, and the folder that it leaves."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ehr_bert.files import read_json, write_json, written_aside
from ehr_bert.prediction.problem import Scores

RUNS_FOLDER = "runs"
RESULT_FILE, PREDICTIONS_FILE = "result.json", "predictions.npz"
ALL = "all"
"""The size of a run on all training patients, in a folder's name."""


@dataclass(frozen=True)
class Run:
    """A run, done or not.

    Attributes:
        grid: The grid's folder.
        model: The contender's name.
        size: Training patients; all of them if None.
        seed: Its seed.
    """

    grid: Path
    model: str
    size: int | None
    seed: int

    def __str__(self) -> str:
        return f"{self.model}, {ALL if self.size is None else self.size}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        """`runs/<model>/<size>/seed-<seed>`."""
        size = ALL if self.size is None else str(self.size)
        return self.grid / RUNS_FOLDER / self.model / size / f"seed-{self.seed}"

    @property
    def is_done(self) -> bool:
        """Whether its result is there; it is written last."""
        return (self.folder / RESULT_FILE).exists()

    def record(self) -> dict[str, Any]:
        """Its result."""
        return read_json(self.folder / RESULT_FILE)

    def predictions(self) -> dict[str, np.ndarray]:
        """`<side>_rows` of the cohort table, `<side>_logits`, `<side>_probabilities`, of valid and test."""
        with np.load(self.folder / PREDICTIONS_FILE) as arrays:
            return dict(arrays)

    def scores(self) -> Scores:
        """What it said, for a contender that builds on it."""
        found = self.predictions()
        return Scores(found["valid_logits"], found["test_logits"], self.record()["chosen"])

    def write(self, record: dict[str, Any], predictions: dict[str, np.ndarray]) -> None:
        """Leaves its folder, the result last."""
        with written_aside(self.folder / PREDICTIONS_FILE) as (aside,), open(aside, "wb") as file:
            np.savez_compressed(file, allow_pickle=False, **predictions)
        write_json(self.folder / RESULT_FILE, record)


def runs_done(grid: Path) -> Iterator[Run]:
    """All runs of a grid that are done, whoever asked for them."""
    for file in sorted((grid / RUNS_FOLDER).glob(f"*/*/seed-*/{RESULT_FILE}")):
        model, size, seed = file.parts[-4:-1]
        yield Run(grid, model, None if size == ALL else int(size), int(seed.removeprefix("seed-")))
