"""One run of a grid: a contender at a training size under a seed, and the folder that it leaves."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ehr_bert.errors import UserError
from ehr_bert.files import read_json, write_json
from ehr_bert.prediction.arrays import read_arrays, write_arrays
from ehr_bert.prediction.contenders.problem import Scores

RUNS_FOLDER = "runs"
RESULT_FILE, PREDICTIONS_FILE = "result.json", "predictions.npz"
_KEYS = {"model", "size", "seed", "valid", "test", "chosen", "seconds"}
_ARRAYS = {f"{side}_{name}" for side in ("valid", "test") for name in ("rows", "logits", "probabilities")}
ALL = "all"
"""The size of a run on all training patients, in a folder's name."""


@dataclass(frozen=True)
class ContenderRun:
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
        """Its result.

        Raises:
            UserError: the file holds something else.
        """
        record = self._read(read_json, RESULT_FILE)
        if missing := _KEYS - record.keys():
            raise self._damaged(f"{RESULT_FILE} lacks {', '.join(sorted(missing))}")
        return record

    def predictions(self) -> dict[str, np.ndarray]:
        """`<side>_rows` of the cohort table, `<side>_logits`, `<side>_probabilities`, of valid and test.

        Raises:
            UserError: the file is missing, or holds something else.
        """
        found = self._read(read_arrays, PREDICTIONS_FILE)
        if missing := _ARRAYS - found.keys():
            raise self._damaged(f"{PREDICTIONS_FILE} lacks {', '.join(sorted(missing))}")
        return found

    def _read(self, read: Callable[[Path], dict[str, Any]], file: str) -> dict[str, Any]:
        try:
            return read(self.folder / file)
        except UserError as error:
            raise self._damaged(str(error)) from error

    def _damaged(self, why: str) -> UserError:
        return UserError(f"{why}: remove {self.folder}, and `ehr-bert finetune` makes it again")

    def scores(self) -> Scores:
        """What it said, for a contender that builds on it."""
        found = self.predictions()
        return Scores(found["valid_logits"], found["test_logits"], self.record()["chosen"])

    def write(self, record: dict[str, Any], predictions: dict[str, np.ndarray]) -> None:
        """Leaves its folder, the result last."""
        write_arrays(self.folder / PREDICTIONS_FILE, predictions)
        write_json(self.folder / RESULT_FILE, record)


def runs_done(grid: Path) -> Iterator[ContenderRun]:
    """All runs of a grid that are done, whoever asked for them; folders of other names are left out."""
    for file in sorted((grid / RUNS_FOLDER).glob(f"*/*/seed-*/{RESULT_FILE}")):
        model, size, seed = file.parts[-4:-1]
        number = seed.removeprefix("seed-")
        if number.isdecimal() and (size == ALL or size.isdecimal()):
            yield ContenderRun(grid, model, None if size == ALL else int(size), int(number))
