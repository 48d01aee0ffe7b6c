"""What a training says while it runs: a progress line, and a report every so many updates."""

import logging
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import SupportsFloat

from tqdm import tqdm

from ehr_bert.errors import UserError
from ehr_bert.training.record.metrics_log import MetricsLog

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 1.0
TRAINING_LOG_SECONDS = 30.0

LATE = 8
"""Updates that a device may be ahead of what was looked at, so that it need not be waited for."""

MIXTURE = "mixture/"
"""Begins the names of sums that are counts of a mixture: `mixture/<phase>/<corpus>/<what>`."""

SKIPPED_AT_MOST = 2
"""Updates in a row that may be skipped since their loss or gradient was not finite."""


@dataclass(frozen=True)
class Work:
    """What an update of a phase costs.

    Attributes:
        positions: Positions computed, padding too.
        flops: Of so many real tokens, masked codes and patients, the operations of matrix products.
    """

    positions: int
    flops: Callable[[float, float, float], float]


class Totals(defaultdict[str, float]):
    """Sums by name."""

    def __init__(self, values: Mapping[str, float] = MappingProxyType({})):
        super().__init__(float, values)

    def add(self, values: Mapping[str, float]) -> None:
        """Adds to each."""
        for name, value in values.items():
            self[name] += value


class Progress:
    """Progress of one training, from its first update in this process on.

    A report covers the updates since the one before, in whatever process they were made: losses are means
    over their masked codes and patients. Rates are per second; left out of them are pauses, and the first
    update of each phase, for the compiling.
    """

    def __init__(
        self,
        log: MetricsLog,
        first_step: int,
        steps: int,
        report_every: int,
        learning_rate: Callable[[int], float],
        state: Mapping[str, float],
        shown: bool = True,
    ):
        """Begins.

        Args:
            log: Where reports go.
            first_step: Updates made so far.
            steps: Updates in all.
            report_every: Updates between reports; there is one after the last too.
            learning_rate: That of an update, by the number of updates before it.
            state: As `state` gave it when `first_step` was saved.
            shown: Whether there is a progress line.
        """
        self._log = log
        self._report_every = report_every
        self._learning_rate = learning_rate
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
        """Says what an update costs from now on; the next one is not timed."""
        self.settle()
        self._stop_clock()
        self._work = work

    def step(self, step: int, sums: Mapping[str, SupportsFloat]) -> None:
        """Takes in the sums of update number `step`, counted from 1.

        Raises:
            UserError: too many updates in a row were skipped.
        """
        timed = self._clock is not None
        self._waiting.append((step, sums, timed))
        self._bar.update()
        if not timed:
            self.settle()
            self._clock = time.monotonic()
        elif len(self._waiting) > LATE:
            self._settle_one()
        if step % self._report_every == 0 or step == self._steps:
            self.report(step)
        elif time.monotonic() - self._shown > REFRESH_SECONDS:
            self._show(self._figures())

    def settle(self) -> None:
        """Waits for the device, and looks at the sums of all updates.

        Raises:
            UserError: too many updates in a row were skipped.
        """
        while self._waiting:
            self._settle_one()

    def report(self, step: int) -> None:
        """Reports on the updates since the last report, if there are any, and no earlier process did."""
        self.settle()
        if not self._sums["updates"] or step in self._log.reports:
            return
        running = self._stop_clock()
        figures = self._figures()
        self._log.write(step, "train", {**figures, "learning_rate": self._learning_rate(step - 1)})
        self._show(figures)
        in_a_row = self._sums["skipped_in_a_row"]
        self._sums, self._timed = Totals({"skipped_in_a_row": in_a_row}), Totals()
        if running:
            self._clock = time.monotonic()

    def state(self) -> dict[str, float]:
        """What a report must know of the updates before, should another process make it."""
        self.settle()
        self._count_seconds()
        return dict(self._sums)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """A block whose time is not that of updates."""
        self.settle()
        running = self._stop_clock()
        yield
        if running:
            self._clock = time.monotonic()

    def log(self, message: str) -> None:
        """Log a message above the progress line."""
        with tqdm.external_write_mode(sys.stderr):
            logger.info(message)

    def _settle_one(self) -> None:
        step, sums, timed = self._waiting.popleft()
        values = {name: float(value) for name, value in sums.items()}
        skipped = values["skipped"] > 0
        if skipped:  # its losses mean nothing
            values = {"skipped": 1.0, "real_tokens": values["real_tokens"]}
        self._sums.add({**values, "updates": 1})
        if self._work:
            self._sums["positions"] += self._work.positions
        if timed and self._work:
            patients, tokens = values.get("stay_count", 0.0), values["real_tokens"]
            flops = self._work.flops(tokens, values.get("masked_lm_count", 0.0), patients)
            self._timed.add({"updates": 1, "patients": patients, "real_tokens": tokens, "flops": flops})
        self._sums["skipped_in_a_row"] = self._sums["skipped_in_a_row"] + 1 if skipped else 0
        if self._sums["skipped_in_a_row"] > SKIPPED_AT_MOST:
            first = step - int(self._sums["skipped_in_a_row"]) + 1
            raise UserError(
                f"the loss or its gradient was not finite in updates {first} to {step}, which were skipped: "
                'lower the learning rate, or take precision = "float32" (no checkpoint holds their harm)'
            )

    def _stop_clock(self) -> bool:
        """Adds the time since the clock was started; returns whether it ran."""
        if self._clock is None:
            return False
        self._timed["seconds"] += time.monotonic() - self._clock
        self._clock = None
        return True

    def _count_seconds(self) -> None:
        now = time.monotonic()
        self._sums["seconds"] += now - self._counted
        self._counted = now

    def _figures(self) -> dict[str, float]:
        self._count_seconds()
        sums, timed = self._sums, self._timed
        found = {}
        for name, prefix in (("masked_lm", "masked_lm"), ("next_sentence", "stay")):
            if count := sums[f"{prefix}_count"]:
                found[f"{name}_loss"] = sums[f"{prefix}_loss"] / count
                found[f"{name}_accuracy"] = sums[f"{prefix}_correct"] / count
        if made := sums["updates"] - sums["skipped"]:
            found["gradient_norm"] = sums["gradient_norm"] / made
        seconds = timed["seconds"] + (time.monotonic() - self._clock if self._clock else 0)
        if timed["updates"] and seconds:
            found["steps_per_second"] = timed["updates"] / seconds
            found["patients_per_second"] = timed["patients"] / seconds
            found["real_tokens_per_second"] = timed["real_tokens"] / seconds
            found["model_flops_per_second"] = timed["flops"] / seconds
        if sums["positions"]:
            found["padding_fraction"] = 1 - sums["real_tokens"] / sums["positions"]
        found |= {name: value for name, value in sums.items() if name.startswith(MIXTURE)}
        return {**found, "skipped_updates": sums["skipped"], "seconds": sums["seconds"]}

    def _show(self, figures: Mapping[str, float]) -> None:
        self._shown = time.monotonic()
        shown = [
            text.format(figures[name])
            for name, text in (
                ("masked_lm_loss", "codes {:.3f}"),
                ("next_sentence_loss", "stay {:.3f}"),
                ("real_tokens_per_second", "{:,.0f} real tokens/s"),
            )
            if name in figures
        ]
        shown.append(f"rate {self._learning_rate(self._bar.n - 1 if self._bar.n else 0):.2g}")
        self._bar.set_postfix_str(", ".join(shown), refresh=False)
