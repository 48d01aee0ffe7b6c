"""One run of a comparison: a contender at a training size with a seed, and the folder that it writes."""

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
_ARRAYS = {f"{split}_{name}" for split in ("valid", "test") for name in ("rows", "logits", "probabilities")}
ALL = "all"
"""Name of the folder of runs on all training patients."""


@dataclass(frozen=True)
class ContenderRun:
    """A run, finished or not.

    Attributes:
        grid: Folder of the comparison.
        model: Name of the contender.
        size: Number of training patients; None for all of them.
        seed: Random seed.
    """

    grid: Path
    model: str
    size: int | None
    seed: int

    def __str__(self) -> str:
        return f"{self.model}, {ALL if self.size is None else self.size}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Folder of the run: `runs/<model>/<size>/seed-<seed>`."""
        size = ALL if self.size is None else str(self.size)
        return self.grid / RUNS_FOLDER / self.model / size / f"seed-{self.seed}"

    @property
    def is_finished(self) -> bool:
        """Whether the run has a result, which is written last."""
        return (self.folder / RESULT_FILE).exists()

    def record(self) -> dict[str, Any]:
        """Return the content of `result.json`.

        Raises:
            UserError: The file is damaged (key `damaged-run`).
        """
        return self._read(read_json, RESULT_FILE, _KEYS)

    def predictions(self) -> dict[str, np.ndarray]:
        """Return the validation and test predictions: `[N]` each.

        Keys are `valid_` and `test_` with `rows` of the cohort table, `logits` and `probabilities`.

        Raises:
            UserError: The file is missing or damaged (key `damaged-run`).
        """
        return self._read(read_arrays, PREDICTIONS_FILE, _ARRAYS)

    def _read(self, read: Callable[[Path], dict[str, Any]], file: str, required: set[str]) -> dict[str, Any]:
        path = self.folder / file
        try:
            values = read(path)
        except UserError as error:
            raise self._damaged(f"{path} is missing or damaged") from error
        if missing := required - values.keys():
            raise self._damaged(f"{path} has no {', '.join(sorted(missing))}")
        return values

    def _damaged(self, reason: str) -> UserError:
        return UserError("damaged-run", f"{reason}. Remove {self.folder} and run `ehr-bert finetune` again.")

    def scores(self) -> Scores:
        """Return the scores, for a contender that needs them."""
        predictions = self.predictions()
        return Scores(predictions["valid_logits"], predictions["test_logits"], self.record()["chosen"])

    def write(self, record: dict[str, Any], predictions: dict[str, np.ndarray]) -> None:
        """Write the folder, the result last."""
        write_arrays(self.folder / PREDICTIONS_FILE, predictions)
        write_json(self.folder / RESULT_FILE, record)


def finished_runs(grid: Path) -> Iterator[ContenderRun]:
    """Find all finished runs in the folder of a comparison, and skip folders with other names."""
    for file in sorted((grid / RUNS_FOLDER).glob(f"*/*/seed-*/{RESULT_FILE}")):
        model, size, seed_folder = file.parts[-4:-1]
        seed = seed_folder.removeprefix("seed-")
        if seed.isdecimal() and (size == ALL or size.isdecimal()):
            yield ContenderRun(grid, model, None if size == ALL else int(size), int(seed))
