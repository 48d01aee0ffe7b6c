"""The runs of a grid summed up: what `results.json` holds, and the predictions that are drawn."""

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
from ehr_bert.metrics.summary import METRICS
from ehr_bert.prediction.comparison.grid import GRID_FILE
from ehr_bert.prediction.comparison.held_out import HeldOut
from ehr_bert.prediction.comparison.runs import ContenderRun, runs_done
from ehr_bert.prediction.contenders.contender import contender, place

BOOTSTRAP_REPLICATES = 1000
"""Draws of the test patients."""


@dataclass(frozen=True)
class Cell:
    """A contender at a training size: its runs, one a seed.

    Attributes:
        model: The contender's name.
        size: Training patients.
        runs: In the order of their seeds.
        records: Their results.
    """

    model: str
    size: int
    runs: Sequence[ContenderRun]
    records: Sequence[Mapping[str, Any]]

    @property
    def valid_auroc(self) -> float:
        """On the validation split, the mean over seeds."""
        return float(np.mean([record["valid"]["auroc"] for record in self.records]))

    @property
    def best_run(self) -> ContenderRun:
        """The seed of the highest AUROC on the validation split."""
        aurocs = [record["valid"]["auroc"] for record in self.records]
        return self.runs[int(np.argmax(aurocs))]

    def predictions(self, name: str) -> np.ndarray:
        """`test_logits` or `test_probabilities`: `[S, T]`."""
        return np.stack([run.predictions()[name] for run in self.runs])


def cells_of(folder: Path) -> list[Cell]:
    """What a grid's folder holds, by training size and then in the order of the table.

    Raises:
        UserError: no run is done, or one can't be read.
    """
    found: dict[tuple[int, str], list[tuple[ContenderRun, Mapping[str, Any]]]] = defaultdict(list)
    for run in runs_done(folder):
        record, known = run.record(), contender(run.model)
        found[record["size"], known.name].append((run, record))
    if not found:
        raise UserError(f"{folder} holds no finished run: make some with `ehr-bert finetune`")
    cells = []
    for size, model in sorted(found, key=lambda key: (key[0], place(key[1]))):
        runs, records = zip(*sorted(found[size, model], key=lambda pair: pair[0].seed), strict=True)
        cells.append(Cell(model, size, runs, records))
    return cells


def best_baseline(cells: Iterable[Cell], size: int) -> Cell | None:
    """The baseline of the highest AUROC on the validation split at a size, if there is any."""
    baselines = [cell for cell in cells if cell.size == size and contender(cell.model).is_baseline]
    return max(baselines, key=lambda cell: cell.valid_auroc, default=None)


def sum_up(folder: Path, shown: Callable[[list[Cell]], Iterable[Cell]] = list) -> dict[str, Any]:
    """What `results.json` holds.

    Args:
        folder: The grid's.
        shown: Goes through the cells, perhaps with a progress bar.

    Raises:
        UserError: the folder is no grid's, or no run is done.
    """
    test, facts, cells = HeldOut.read(folder), read_json(folder / GRID_FILE), cells_of(folder)
    if not {"task", "about"} <= facts.keys():
        raise UserError(f"{folder / GRID_FILE} lacks the task or the cohort: name another folder")
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
        "table": [_row(cell, baselines[cell.size], test) for cell in shown(cells)],
        "subgroups": _by_group(cells, test),
        "records": [dict(record) for cell in cells for record in cell.records],
    }


def curves(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By contender at the largest size, labels and risks of the test examples, `[T]` each.

    The seed is that of the highest AUROC on the validation split.
    """
    test, cells = HeldOut.read(folder), cells_of(folder)
    largest = max(cell.size for cell in cells)
    return {
        cell.model: (test.labels, cell.best_run.predictions()["test_probabilities"])
        for cell in cells
        if cell.size == largest
    }


def _row(cell: Cell, baseline: Cell | None, test: HeldOut) -> dict[str, Any]:
    intervals = bootstrap(
        test.labels,
        cell.predictions("test_probabilities"),
        BOOTSTRAP_REPLICATES,
        patients=None if test.patients_are_distinct else test.patients,
    )
    return {
        "model": cell.model,
        "size": cell.size,
        "seeds": len(cell.runs),
        "valid_auroc": cell.valid_auroc,
        **{
            name: {
                **nan_to_none(intervals[name].to_dict()),
                "deviation": _deviation([record["test"][name] for record in cell.records]),
            }
            for name in METRICS
        },
        "seconds": round(float(np.mean([record["seconds"] for record in cell.records])), 2),
        "delong": _compared(cell, baseline, test),
    }


def _compared(cell: Cell, baseline: Cell | None, test: HeldOut) -> dict[str, Any] | None:
    """DeLong's test against the baseline; None for itself, or where the test doesn't hold."""
    enough = min(test.labels.sum(), (1 - test.labels).sum()) > 1
    if baseline is None or cell is baseline or not test.patients_are_distinct or not enough:
        return None
    found = delong(test.labels, *(each.predictions("test_logits") for each in (cell, baseline)))
    return {"baseline": baseline.model, **found.to_dict()}


def _by_group(cells: Sequence[Cell], test: HeldOut) -> list[dict[str, Any]]:
    """At the largest size, the best baseline and who owes to the pretraining, by group of test examples."""
    largest = max(cell.size for cell in cells)
    baseline = best_baseline(cells, largest)
    looked_at = [
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
                name: nan_to_none(interval.to_dict())
                for name, interval in bootstrap(
                    test.labels[members],
                    cell.predictions("test_probabilities")[:, members],
                    BOOTSTRAP_REPLICATES,
                    patients=test.patients[members],
                ).items()
            },
        }
        for group, members in test.groups.items()
        for cell in looked_at
    ]


def _deviation(values: Sequence[float | None]) -> float | None:
    """The standard deviation over seeds, of the sample."""
    known = [value for value in values if value is not None]
    return float(np.std(known, ddof=1)) if len(known) > 1 else None
