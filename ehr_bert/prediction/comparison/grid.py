"""A grid of runs: contenders by training sizes by seeds, side by side, on from where it was stopped.

A run is a function of the cohort, the export, the settings and its seed. It computes on one thread, so that
the same grid comes out of any number of processes.
"""

import hashlib
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import expit
from threadpoolctl import threadpool_limits

from ehr_bert.cohorts.cohort import COHORT_FOLDER, read_cohort
from ehr_bert.errors import UserError
from ehr_bert.files import nan_to_none, read_json, refuse_changed_settings, refuse_foreign_folder, write_json
from ehr_bert.metrics.calibration import fit_calibration
from ehr_bert.metrics.summary import binary_metrics
from ehr_bert.prediction.comparison.held_out import HeldOut
from ehr_bert.prediction.comparison.runs import ContenderRun
from ehr_bert.prediction.contenders.contender import contender, with_needs
from ehr_bert.prediction.contenders.problem import Problem, Sides
from ehr_bert.prediction.contenders.tuning import Tuning, without_ineffective
from ehr_bert.prediction.optimization import Runtime

GRID_FILE = "grid.json"
"""What all runs of a folder have in common."""


@dataclass(frozen=True)
class Grid:
    """What all runs have in common, small enough to be sent to each process.

    Attributes:
        folder: Where they leave their folders.
        cohort: The cohort's folder.
        task: The task's column.
        model: The export folder, if there is one.
        tuning: How neural contenders are fitted.
    """

    folder: Path
    cohort: Path
    task: str
    model: Path | None
    tuning: Tuning

    def problem(self) -> Problem:
        """The problem, read anew."""
        return Problem.of(read_cohort(self.cohort), self.task, self.model, self.tuning)

    def begin(self, problem: Problem) -> None:
        """Notes what the runs have in common, and what must be known of the test examples to sum them up.

        Args:
            problem: The grid's.

        Raises:
            UserError: The folder contains other files (key `output-not-empty`), or runs of another cohort,
                model or tuning (`output-of-other-settings`).
        """
        facts = {"task": self.task, "cohort": fingerprint(self.cohort / COHORT_FOLDER, ("*.parquet",))}
        about = {"cohort": problem.cohort.facts}
        if self.model:
            facts["model"] = fingerprint(self.model, ("config.json", "vocab.json", "*.safetensors"))
            about["model"] = _about_model(self.model)
        facts["tuning"] = json.loads(json.dumps(self.tuning.to_dict()))  # with lists, as it is read again
        path = self.folder / GRID_FILE
        before = read_json(path) if path.exists() else {"about": {}}
        if "tuning" in before:
            before["tuning"] = without_ineffective(before["tuning"])
        refuse_foreign_folder(self.folder, "finetune", GRID_FILE)
        # Runs without a pretrained model may be in one folder with runs on any, but on one alone.
        refuse_changed_settings(
            self.folder, [key for key in facts if key in before and facts[key] != before[key]]
        )
        if Runtime().accelerator.is_main_process:
            write_json(path, {**before, **facts, "about": {**before["about"], **about}})
            HeldOut.of(problem, self.cohort).write(self.folder)


def plan_runs(
    folder: Path, models: Sequence[str], sizes: Sequence[int | None], seeds: int
) -> list[ContenderRun]:
    """The runs of a grid: seed by seed, the smallest sizes first, each after those that it needs.

    So a grid that is stopped early has whole seeds, and its table all sizes.

    Args:
        folder: The grid's.
        models: Contenders; those that they need are added.
        sizes: Training patients, all of them if None.
        seeds: Runs of each, under the seeds 1, 2, ...

    Raises:
        UserError: there is no such contender.
    """
    ordered = with_needs(models)
    by_size = sorted(set(sizes), key=lambda size: (size is None, size or 0))
    return [
        ContenderRun(folder, name, size, seed)
        for seed in range(1, seeds + 1)
        for size in by_size
        for name in ordered
    ]


def run_contenders(
    grid: Grid, problem: Problem, runs: Sequence[ContenderRun], processes: int
) -> Iterator[ContenderRun]:
    """Makes runs, and gives each as soon as it is done.

    Args:
        grid: What they have in common.
        problem: The grid's, as this process read it.
        runs: Those to make, in the order of `plan_runs`.
        processes: How many at a time; each reads the cohort once. GPUs are shared out among them.

    Raises:
        UserError: a process was ended from outside.
    """
    if min(processes, len(runs)) < 2 or Runtime().accelerator.num_processes > 1:
        for run in runs:
            make(run, problem)
            yield run
        return
    context = multiprocessing.get_context("spawn")
    number = context.Value("i", 0)
    executor = ProcessPoolExecutor(processes, context, _begin_worker, (grid, number))
    try:
        yield from _made_together(executor, runs)
        executor.shutdown()
    except BrokenProcessPool as error:
        raise UserError(
            "a process was ended from outside, perhaps for want of memory: take fewer --processes"
        ) from error
    finally:
        for process in multiprocessing.active_children():
            process.terminate()


def _made_together(executor: ProcessPoolExecutor, runs: Sequence[ContenderRun]) -> Iterator[ContenderRun]:
    """Gives runs to processes, those that need others after these."""
    waiting, under_way = list(runs), dict[Future[None], ContenderRun]()
    while waiting or under_way:
        going = set(waiting) | set(under_way.values())
        ready = [run for run in waiting if not going & set(_needs(run))]
        under_way |= {executor.submit(_make_in_worker, run): run for run in ready}
        waiting = [run for run in waiting if run not in set(ready)]
        for future in wait(under_way, return_when=FIRST_COMPLETED).done:
            future.result()
            yield under_way.pop(future)


def _needs(run: ContenderRun) -> list[ContenderRun]:
    return [ContenderRun(run.grid, name, run.size, run.seed) for name in contender(run.model).needs]


def make(run: ContenderRun, problem: Problem) -> None:
    """Makes one run, and leaves its folder.

    The test split is scored once, when all is chosen.
    """
    started = time.perf_counter()
    torch.set_num_threads(1)
    sides = problem.sides(run.size, run.seed)
    others = {need.model: need.scores() for need in _needs(run)}
    with threadpool_limits(1):
        scores = contender(run.model).fit(problem, sides, run.seed, others)
    valid, test = problem.labels[sides.valid], problem.labels[sides.test]
    calibration = fit_calibration(scores.valid, valid, problem.tuning.calibration)
    risks = {"valid": calibration.probabilities(scores.valid), "test": calibration.probabilities(scores.test)}
    record = {
        "model": run.model,
        "size": len(np.unique(problem.patients[sides.train])),
        "seed": run.seed,
        "train_examples": len(sides.train),
        "train_positives": int(problem.labels[sides.train].sum()),
        "valid": nan_to_none(binary_metrics(valid, risks["valid"])),
        "test": nan_to_none(binary_metrics(test, risks["test"])),
        "test_uncalibrated": nan_to_none(binary_metrics(test, expit(scores.test))),
        "calibration": calibration.to_dict(),
        "chosen": scores.chosen,
        "seconds": round(time.perf_counter() - started, 2),
    }
    accelerator = Runtime().accelerator
    if accelerator.is_main_process:
        run.write(record, _predictions(problem, sides, scores.valid, scores.test, risks))
    accelerator.wait_for_everyone()


def _predictions(
    problem: Problem, sides: Sides, valid: np.ndarray, test: np.ndarray, risks: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    return {
        f"{side}_{name}": values
        for side, rows, logits in (("valid", sides.valid, valid), ("test", sides.test, test))
        for name, values in (
            ("rows", problem.rows[rows]),
            ("logits", logits),
            ("probabilities", risks[side]),
        )
    }


def default_processes() -> int:
    """A process a GPU; without any, one a core that this process may use."""
    if torch.cuda.is_available():
        return torch.cuda.device_count()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return cores or 1


def fingerprint(folder: Path, patterns: Sequence[str]) -> str:
    """A hash of the bytes of some files."""
    digest = hashlib.sha256()
    for file in (file for pattern in patterns for file in sorted(folder.glob(pattern))):
        with open(file, "rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()[:16]


def _about_model(folder: Path) -> dict[str, Any]:
    """What is told of the pretrained model's size."""
    config = read_json(folder / "config.json")
    keys = (
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "vocab_size",
        "max_position_embeddings",
    )
    return {key: config.get(key) for key in keys}


_problem: Problem
"""The process's own."""


def _begin_worker(grid: Grid, number: Any) -> None:
    """Prepares a process: a GPU if there are any, the data read; it ends with its parent."""
    global _problem
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with number.get_lock():
        place = number.value
        number.value += 1
    if torch.cuda.is_available():
        torch.cuda.set_device(place % torch.cuda.device_count())
    _problem = grid.problem()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _make_in_worker(run: ContenderRun) -> None:
    make(run, _problem)
