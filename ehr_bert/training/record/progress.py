"""Progress of a training run: a progress line, and a report every `report_every` updates."""

import logging
import math
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import Any, SupportsFloat

from tqdm import tqdm

from ehr_bert.errors import UserError
from ehr_bert.objectives.objective import Objective
from ehr_bert.training.record.metrics_log import MetricsLog

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 1.0
TRAINING_LOG_SECONDS = 30.0

MAX_PENDING_UPDATES = 8
"""Number of updates whose sums may still be on the device, so that training does not wait for them."""

MIXTURE = "mixture/"
"""Prefix of the counts of a mixture: `mixture/<phase>/<corpus>/<patients or tokens>`."""

MAX_CONSECUTIVE_SKIPS = 2
"""Consecutive updates that may be skipped because their loss or gradient is not finite."""


@dataclass(frozen=True)
class Work:
    """Cost of one update of a phase.

    Attributes:
        positions: Number of positions computed, including padding.
        flops: Maps the sums of an update to the operations of matrix products.
    """

    positions: int
    flops: Callable[[Mapping[str, float]], float]


class Totals(defaultdict[str, float]):
    """Sums by name."""

    def __init__(self, values: Mapping[str, float] = MappingProxyType({})):
        super().__init__(float, values)

    def add(self, values: Mapping[str, float]) -> None:
        """Add values to the sums of the same name."""
        for name, value in values.items():
            self[name] += value


class Progress:
    """Progress of a training run in this process.

    A report covers the updates since the previous report, including those of an interrupted process. Losses
    are means over masked codes and patients. Rates are per second, without pauses and without the first
    update of each phase, which compiles the model.

    Args:
        log: Log that receives the reports.
        first_step: Number of updates made so far.
        steps: Total number of updates.
        report_every: Updates between reports. The last update is followed by a report too.
        learning_rate: Maps the number of previous updates to the learning rate of an update.
        state: Value of `state()` when `first_step` was saved.
        objectives: Objectives that are trained.
        shown: Whether to show a progress line. It is also hidden by `--quiet`.
    """

    def __init__(
        self,
        log: MetricsLog,
        first_step: int,
        steps: int,
        report_every: int,
        learning_rate: Callable[[int], float],
        state: Mapping[str, float],
        objectives: Iterable[Objective[Any]],
        shown: bool = True,
    ):
        self._log = log
        self._report_every = report_every
        self._learning_rate = learning_rate
        self._objectives = tuple(objectives)
        self._sums = Totals(state)
        self._timed = Totals()
        self._waiting: deque[tuple[int, Mapping[str, SupportsFloat], bool]] = deque()
        self._work: Work | None = None
        self._clock: float | None = None
        self._counted = self._shown = time.monotonic()
        self._bar = tqdm(
            total=steps,
            initial=first_step,
            unit="step",
            desc="pretraining",
            dynamic_ncols=True,
            mininterval=REFRESH_SECONDS if sys.stderr.isatty() else TRAINING_LOG_SECONDS,
            disable=not (shown and logger.isEnabledFor(logging.INFO)),
        )
        self._steps = steps

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def begin(self, work: Work) -> None:
        """Set the cost of the next updates. The first of them is not timed."""
        self.settle()
        self._stop_clock()
        self._work = work

    def step(self, step: int, sums: Mapping[str, SupportsFloat]) -> None:
        """Add the sums of update number `step`, counted from 1.

        Raises:
            UserError: Too many consecutive updates were skipped (key `not-finite`).
        """
        timed = self._clock is not None
        self._waiting.append((step, sums, timed))
        self._bar.update()
        if not timed:
            self.settle()
            self._clock = time.monotonic()
        elif len(self._waiting) > MAX_PENDING_UPDATES:
            self._settle_one()
        if step % self._report_every == 0 or step == self._steps:
            self.report(step)
        elif time.monotonic() - self._shown > REFRESH_SECONDS:
            self._show(self._metrics())

    def settle(self) -> None:
        """Wait for the device and add up the sums of all updates.

        Raises:
            UserError: Too many consecutive updates were skipped (key `not-finite`).
        """
        while self._waiting:
            self._settle_one()

    def report(self, step: int) -> None:
        """Report on the updates since the last report, unless an earlier process has done so."""
        self.settle()
        if not self._sums["updates"] or step in self._log.reports:
            return
        was_running = self._stop_clock()
        metrics = self._metrics()
        self._log.write(step, "train", {**metrics, "learning_rate": self._learning_rate(step - 1)})
        self._show(metrics)
        consecutive = self._sums["skipped_in_a_row"]
        self._sums, self._timed = Totals({"skipped_in_a_row": consecutive}), Totals()
        if was_running:
            self._clock = time.monotonic()

    def state(self) -> dict[str, float]:
        """Return the sums since the last report, for a process that resumes the training run."""
        self.settle()
        self._count_seconds()
        return dict(self._sums)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the time of the block from the rates."""
        self.settle()
        was_running = self._stop_clock()
        yield
        if was_running:
            self._clock = time.monotonic()

    def log(self, message: str) -> None:
        """Log a message above the progress line."""
        with tqdm.external_write_mode(sys.stderr):
            logger.info(message)

    def _settle_one(self) -> None:
        step, sums, timed = self._waiting.popleft()
        values = {name: float(value) for name, value in sums.items()}
        skipped = values["skipped"] > 0
        if skipped:  # the losses are not finite
            values = {"skipped": 1.0, "real_tokens": values["real_tokens"]}
        self._sums.add({**values, "updates": 1})
        if self._work:
            self._sums["positions"] += self._work.positions
        if timed and self._work:
            patients, tokens = values.get("patients", 0.0), values["real_tokens"]
            flops = self._work.flops(values)
            self._timed.add({"updates": 1, "patients": patients, "real_tokens": tokens, "flops": flops})
        self._sums["skipped_in_a_row"] = self._sums["skipped_in_a_row"] + 1 if skipped else 0
        if self._sums["skipped_in_a_row"] > MAX_CONSECUTIVE_SKIPS:
            losses = [name for name in sums if name.endswith("_loss") and not math.isfinite(sums[name])]
            first = step - int(self._sums["skipped_in_a_row"]) + 1
            raise UserError(
                "not-finite",
                f"{' and '.join(losses) or 'the gradient'} was not finite in updates {first} to {step}, "
                "which were skipped. "
                'The checkpoints are valid. Lower the learning rate, or set precision = "float32".',
            )

    def _stop_clock(self) -> bool:
        """Add the time since the clock was started, and return whether it was running."""
        if self._clock is None:
            return False
        self._timed["seconds"] += time.monotonic() - self._clock
        self._clock = None
        return True

    def _count_seconds(self) -> None:
        now = time.monotonic()
        self._sums["seconds"] += now - self._counted
        self._counted = now

    def _metrics(self) -> dict[str, float]:
        self._count_seconds()
        sums, timed = self._sums, self._timed
        metrics: dict[str, float] = {}
        for objective in self._objectives:
            prefix = objective.prefix
            objective_sums = {name: sums[f"{prefix}_{name}"] for name in (*objective.sum_names, "count")}
            if objective_sums["count"]:
                of_objective = objective.metrics(objective_sums, {})
                metrics |= {f"{prefix}_{key}": value for key, value in of_objective.items()}
        if applied_updates := sums["updates"] - sums["skipped"]:
            metrics["gradient_norm"] = sums["gradient_norm"] / applied_updates
        seconds = timed["seconds"] + (time.monotonic() - self._clock if self._clock else 0)
        if timed["updates"] and seconds:
            metrics["steps_per_second"] = timed["updates"] / seconds
            metrics["patients_per_second"] = timed["patients"] / seconds
            metrics["real_tokens_per_second"] = timed["real_tokens"] / seconds
            metrics["model_flops_per_second"] = timed["flops"] / seconds
        if sums["positions"]:
            metrics["padding_fraction"] = 1 - sums["real_tokens"] / sums["positions"]
        metrics |= {name: value for name, value in sums.items() if name.startswith(MIXTURE)}
        return {**metrics, "skipped_updates": sums["skipped"], "seconds": sums["seconds"]}

    def _show(self, metrics: Mapping[str, float]) -> None:
        self._shown = time.monotonic()
        shown = [
            f"{objective.short_title} {metrics[f'{objective.prefix}_loss']:.3f}"
            for objective in self._objectives
            if f"{objective.prefix}_loss" in metrics
        ]
        if "real_tokens_per_second" in metrics:
            shown.append(f"{metrics['real_tokens_per_second']:,.0f} real tokens/s")
        shown.append(f"rate {self._learning_rate(self._bar.n - 1 if self._bar.n else 0):.2g}")
        self._bar.set_postfix_str(", ".join(shown), refresh=False)
