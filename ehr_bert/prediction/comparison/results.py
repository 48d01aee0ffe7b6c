"""Results of a comparison: the content of `results.json`, and the predictions to plot."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ehr_bert.errors import UserError
from ehr_bert.files import nan_to_none, read_json
from ehr_bert.metrics.bootstrap import bootstrap
from ehr_bert.metrics.delong import delong
from ehr_bert.metrics.summary import binary_metrics
from ehr_bert.prediction.comparison.grid import GRID_FILE
from ehr_bert.prediction.comparison.held_out import HeldOut
from ehr_bert.prediction.comparison.runs import ContenderRun, finished_runs
from ehr_bert.prediction.contenders.contender import contender, table_position

RESULTS_FILE = "results.json"
"""File with all results of a comparison or of multitask training."""

BOOTSTRAP_REPLICATES = 1000
"""Number of bootstrap replicates of the test patients."""


@dataclass(frozen=True)
class Cell:
    """A contender at one training size, with one run per seed.

    Attributes:
        model: Name of the contender.
        size: Number of training patients.
        runs: Finished runs, in the order of their seeds.
        records: Contents of their `result.json`, in the same order.
    """

    model: str
    size: int
    runs: Sequence[ContenderRun]
    records: Sequence[Mapping[str, Any]]

    @property
    def valid_auroc(self) -> float:
        """Mean validation AUROC over the seeds."""
        return float(np.mean([record["valid"]["auroc"] for record in self.records]))

    @property
    def best_run(self) -> ContenderRun:
        """The run with the highest validation AUROC."""
        aurocs = [record["valid"]["auroc"] for record in self.records]
        return self.runs[int(np.argmax(aurocs))]

    def predictions(self, name: str) -> np.ndarray:
        """Return `test_logits` or `test_probabilities`: float64 `[seeds, N]`."""
        return np.stack([run.predictions()[name] for run in self.runs])


def read_cells(folder: Path) -> list[Cell]:
    """Read the finished runs of a comparison, sorted by training size and then by contender.

    Raises:
        UserError: No run is finished (key `no-finished-run`), or a run cannot be read.
    """
    runs: dict[tuple[int, str], list[tuple[ContenderRun, Mapping[str, Any]]]] = defaultdict(list)
    for run in finished_runs(folder):
        record = run.record()
        runs[record["size"], run.model].append((run, record))
    if not runs:
        raise UserError(
            "no-finished-run",
            f"{folder} contains no finished run. Run `ehr-bert finetune` with it as --output.",
        )
    cells = []
    for size, model in sorted(runs, key=lambda key: (key[0], table_position(key[1]))):
        ordered = sorted(runs[size, model], key=lambda pair: pair[0].seed)
        cells.append(Cell(model, size, [run for run, _ in ordered], [record for _, record in ordered]))
    return cells


def best_baseline(cells: Iterable[Cell], size: int) -> Cell | None:
    """Return the baseline with the highest validation AUROC at a training size, None without baselines."""
    baselines = [cell for cell in cells if cell.size == size and contender(cell.model).is_baseline]
    return max(baselines, key=lambda cell: cell.valid_auroc, default=None)


def summarise_runs(folder: Path, progress: Callable[[list[Cell]], Iterable[Cell]] = list) -> dict[str, Any]:
    """Return the content of `results.json`.

    Args:
        folder: Folder of the comparison.
        progress: Iterates over the cells, for example with a progress bar.

    Raises:
        UserError: The folder is not a comparison (keys `not-a-comparison`, `missing-key`), no run is finished
            (`no-finished-run`), or a file is damaged.
    """
    test, facts, cells = HeldOut.read(folder), read_json(folder / GRID_FILE), read_cells(folder)
    if missing := {"task", "about"} - facts.keys():
        raise UserError(
            "missing-key",
            f"{folder / GRID_FILE} has no {' and no '.join(sorted(missing))}. Choose a folder that "
            "`ehr-bert finetune` wrote.",
        )
    baselines = {size: best_baseline(cells, size) for size in {cell.size for cell in cells}}
    return {
        "task": facts["task"],
        "cohort": facts["about"]["cohort"],
        "model_facts": facts["about"].get("model"),
        "test": {
            "patients": len(np.unique(test.patients)),
            "examples": len(test.labels),
            "positives": int(test.labels.sum()),
        },
        "replicates": BOOTSTRAP_REPLICATES,
        "best_attainable_auroc": test.best_attainable_auroc,
        "table": [_table_row(cell, baselines[cell.size], test) for cell in progress(cells)],
        "subgroups": _subgroup_rows(cells, test),
        "records": [dict(record) for cell in cells for record in cell.records],
    }


def curves(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the test labels and risks of each contender at the largest training size: `[N]` each.

    The risks are those of the seed with the highest validation AUROC.
    """
    test, cells = HeldOut.read(folder), read_cells(folder)
    largest = max(cell.size for cell in cells)
    return {
        cell.model: (test.labels, cell.best_run.predictions()["test_probabilities"])
        for cell in cells
        if cell.size == largest
    }


def _table_row(cell: Cell, baseline: Cell | None, test: HeldOut) -> dict[str, Any]:
    probabilities = cell.predictions("test_probabilities")
    intervals = bootstrap(
        test.labels,
        probabilities,
        BOOTSTRAP_REPLICATES,
        patients=None if test.patients_are_distinct else test.patients,
    )
    # Computed again, because metrics may have been installed since the records were written.
    by_seed = [binary_metrics(test.labels, seed_probabilities) for seed_probabilities in probabilities]
    return {
        "model": cell.model,
        "size": cell.size,
        "seeds": len(cell.runs),
        "valid_auroc": cell.valid_auroc,
        **{
            key: {
                **nan_to_none(interval.to_dict()),
                "deviation": _standard_deviation([values[key] for values in by_seed]),
            }
            for key, interval in intervals.items()
        },
        "seconds": round(float(np.mean([record["seconds"] for record in cell.records])), 2),
        "delong": _delong_test(cell, baseline, test),
    }


def _delong_test(cell: Cell, baseline: Cell | None, test: HeldOut) -> dict[str, Any] | None:
    """Return DeLong's test against the baseline; None for the baseline, and where the test is not valid."""
    has_enough = min(test.labels.sum(), (1 - test.labels).sum()) > 1
    if baseline is None or cell is baseline or not test.patients_are_distinct or not has_enough:
        return None
    test_logits = (cell.predictions("test_logits"), baseline.predictions("test_logits"))
    return {"baseline": baseline.model, **delong(test.labels, *test_logits).to_dict()}


def _subgroup_rows(cells: Sequence[Cell], test: HeldOut) -> list[dict[str, Any]]:
    """Return metrics by subgroup: best baseline and pretrained contenders at the largest training size."""
    largest = max(cell.size for cell in cells)
    baseline = best_baseline(cells, largest)
    evaluated = [
        cell
        for cell in cells
        if cell.size == largest and (cell is baseline or not contender(cell.model).is_baseline)
    ]
    return [
        {
            "group": group,
            "model": cell.model,
            "examples": int(members.sum()),
            "positives": int(test.labels[members].sum()),
            **{
                key: nan_to_none(interval.to_dict())
                for key, interval in bootstrap(
                    test.labels[members],
                    cell.predictions("test_probabilities")[:, members],
                    BOOTSTRAP_REPLICATES,
                    patients=test.patients[members],
                ).items()
            },
        }
        for group, members in test.groups.items()
        for cell in evaluated
    ]


def _standard_deviation(values: Sequence[float]) -> float | None:
    """Return the sample standard deviation of the values that are not NaN."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.std(known, ddof=1)) if len(known) > 1 else None
