"""A grid of runs: contenders at training sizes with seeds, in several processes, resumable.

A run depends only on the cohort, the export folder, the settings and its seed. It computes on one thread, so
the results do not depend on the number of processes.
"""

import hashlib
import json
import multiprocessing
import os
import signal
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
from ehr_bert.logs import configure_logging, configured_verbosity
from ehr_bert.metrics.calibration import fit_calibration
from ehr_bert.metrics.summary import binary_metrics
from ehr_bert.prediction.comparison.held_out import HeldOut
from ehr_bert.prediction.comparison.runs import ContenderRun
from ehr_bert.prediction.contenders.contender import contender, with_needs
from ehr_bert.prediction.contenders.problem import Problem, SplitRows
from ehr_bert.prediction.contenders.tuning import Tuning, without_ineffective
from ehr_bert.prediction.optimization import Runtime
from ehr_bert.processes import exit_with_parent

GRID_FILE = "grid.json"
"""File with the settings that all runs of a folder share."""


@dataclass(frozen=True)
class Grid:
    """Settings that all runs share, small enough to be sent to each process.

    Attributes:
        folder: Folder of the comparison.
        cohort: Folder of the cohort.
        task: Column of the labels.
        model: Export folder of the pretrained model, None without one.
        tuning: Settings of the neural contenders and of the calibration.
    """

    folder: Path
    cohort: Path
    task: str
    model: Path | None
    tuning: Tuning

    def problem(self) -> Problem:
        """Read the cohort and return the problem."""
        return Problem.of(read_cohort(self.cohort), self.task, self.model, self.tuning)

    def start(self, problem: Problem) -> None:
        """Write the settings and the held-out labels to the folder, or compare them with earlier ones.

        Args:
            problem: Problem of the grid.

        Raises:
            UserError: The folder contains other files (key `output-not-empty`), or runs of another cohort,
                model or tuning (`output-of-other-settings`).
        """
        facts = {"task": self.task, "cohort": fingerprint(self.cohort / COHORT_FOLDER, ("*.parquet",))}
        about = {"cohort": problem.cohort.facts}
        if self.model:
            facts["model"] = fingerprint(self.model, ("config.json", "vocab.json", "*.safetensors"))
            about["model"] = _about_model(self.model)
        facts["tuning"] = json.loads(json.dumps(self.tuning.to_dict()))  # with lists, as JSON returns them
        path = self.folder / GRID_FILE
        recorded = read_json(path) if path.exists() else {"about": {}}
        if "tuning" in recorded:
            recorded["tuning"] = without_ineffective(recorded["tuning"])
        refuse_foreign_folder(self.folder, "finetune", GRID_FILE)
        # A folder has runs of at most one pretrained model, and of contenders that need no such model.
        refuse_changed_settings(
            self.folder, [key for key in facts if key in recorded and facts[key] != recorded[key]]
        )
        if Runtime().accelerator.is_main_process:
            write_json(path, {**recorded, **facts, "about": {**recorded["about"], **about}})
            HeldOut.of(problem, self.cohort).write(self.folder)


def plan_runs(
    folder: Path, models: Sequence[str], sizes: Sequence[int | None], seeds: int
) -> list[ContenderRun]:
    """Return the runs of a grid by seed and then by size, each after those that it needs.

    A grid that is interrupted therefore has complete seeds, with all sizes.

    Args:
        folder: Folder of the comparison.
        models: Names of contenders. Those that they need are added.
        sizes: Numbers of training patients; None means all of them.
        seeds: Number of runs of each contender at each size, with the seeds 1, 2, ...

    Raises:
        UserError: A contender is unknown (key `unknown-contender`).
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
    """Fit contenders, and yield each run when it is finished.

    Args:
        grid: Settings that the runs share.
        problem: Problem of the grid.
        runs: Runs that are not finished, in the order of `plan_runs`.
        processes: Number of runs at a time. Each process reads the cohort once, and uses one of the GPUs.

    Raises:
        UserError: A process was killed (key `process-killed`).
    """
    if min(processes, len(runs)) < 2 or Runtime().accelerator.num_processes > 1:
        for run in runs:
            run_contender(run, problem)
            yield run
        return
    context = multiprocessing.get_context("spawn")
    number = context.Value("i", 0)
    executor = ProcessPoolExecutor(processes, context, _start_worker, (grid, number, configured_verbosity()))
    try:
        yield from _run_in_parallel(executor, runs)
        executor.shutdown()
    except BrokenProcessPool as error:
        raise UserError(
            "process-killed",
            "a process was killed, possibly because memory ran out. Choose a smaller --processes.",
        ) from error
    finally:
        for process in multiprocessing.active_children():
            process.terminate()


def _run_in_parallel(executor: ProcessPoolExecutor, runs: Sequence[ContenderRun]) -> Iterator[ContenderRun]:
    """Submit each run once the runs that it needs are finished."""
    waiting, running = list(runs), dict[Future[None], ContenderRun]()
    while waiting or running:
        unfinished = set(waiting) | set(running.values())
        ready = [run for run in waiting if not unfinished & set(_needs(run))]
        running |= {executor.submit(_run_in_worker, run): run for run in ready}
        waiting = [run for run in waiting if run not in set(ready)]
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            future.result()
            yield running.pop(future)


def _needs(run: ContenderRun) -> list[ContenderRun]:
    return [ContenderRun(run.grid, name, run.size, run.seed) for name in contender(run.model).needs]


def run_contender(run: ContenderRun, problem: Problem) -> None:
    """Fit one contender, evaluate it and write its folder.

    The test split is scored once, after all selections on the validation split.
    """
    started = time.perf_counter()
    torch.set_num_threads(1)
    split_rows = problem.split_rows(run.size, run.seed)
    others = {need.model: need.scores() for need in _needs(run)}
    with threadpool_limits(1):
        scores = contender(run.model).fit(problem, split_rows, run.seed, others)
    valid, test = problem.labels[split_rows.valid], problem.labels[split_rows.test]
    calibration = fit_calibration(scores.valid, valid, problem.tuning.calibration)
    risks = {"valid": calibration.probabilities(scores.valid), "test": calibration.probabilities(scores.test)}
    record = {
        "model": run.model,
        "size": len(np.unique(problem.patients[split_rows.train])),
        "seed": run.seed,
        "train_examples": len(split_rows.train),
        "train_positives": int(problem.labels[split_rows.train].sum()),
        "valid": nan_to_none(binary_metrics(valid, risks["valid"])),
        "test": nan_to_none(binary_metrics(test, risks["test"])),
        "test_uncalibrated": nan_to_none(binary_metrics(test, expit(scores.test))),
        "calibration": calibration.to_dict(),
        "chosen": scores.chosen,
        "seconds": round(time.perf_counter() - started, 2),
    }
    accelerator = Runtime().accelerator
    if accelerator.is_main_process:
        run.write(record, _predictions(problem, split_rows, scores.valid, scores.test, risks))
    accelerator.wait_for_everyone()


def _predictions(
    problem: Problem, split_rows: SplitRows, valid: np.ndarray, test: np.ndarray, risks: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    return {
        f"{split}_{name}": values
        for split, rows, logits in (("valid", split_rows.valid, valid), ("test", split_rows.test, test))
        for name, values in (
            ("rows", problem.rows[rows]),
            ("logits", logits),
            ("probabilities", risks[split]),
        )
    }


def default_processes() -> int:
    """Return the number of GPUs, or of available cores without a GPU."""
    if torch.cuda.is_available():
        return torch.cuda.device_count()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return cores or 1


def fingerprint(folder: Path, patterns: Sequence[str]) -> str:
    """Return a hash of the contents of the files that match some patterns."""
    digest = hashlib.sha256()
    for path in (path for pattern in patterns for path in sorted(folder.glob(pattern))):
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def _about_model(folder: Path) -> dict[str, Any]:
    """Return the shape of the pretrained model."""
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
"""Problem of a worker process."""


def _start_worker(grid: Grid, number: Any, verbosity: int | None) -> None:
    """Prepare a worker process: log as the parent does, choose a GPU, read the data, exit with the parent."""
    global _problem
    if verbosity is not None:
        configure_logging(verbosity)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    exit_with_parent()
    with number.get_lock():
        worker = number.value
        number.value += 1
    if torch.cuda.is_available():
        torch.cuda.set_device(worker % torch.cuda.device_count())
    _problem = grid.problem()


def _run_in_worker(run: ContenderRun) -> None:
    run_contender(run, _problem)
