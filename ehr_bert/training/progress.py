"""What a training says while it runs: a progress line, and a report every so many steps."""

import sys
import time
from types import TracebackType

from tqdm import tqdm

from ehr_bert.training.metrics_log import MetricsLog
from ehr_bert.training.step import Sums

REFRESH_SECONDS = 1.0
LOG_FILE_SECONDS = 30.0


class Progress:
    """Progress of one training, from its first step in this process on.

    A report covers the steps since the one before: losses are means over their masked codes and patients,
    rates are per second.
    """

    def __init__(self, log: MetricsLog, first_step: int, steps: int, report_every: int):
        self._log = log
        self._report_every = report_every
        self._pending: list[Sums] = []
        self._since = self._shown = time.monotonic()
        self._bar = tqdm(
            total=steps,
            initial=first_step,
            unit="step",
            desc="pretraining",
            dynamic_ncols=True,
            mininterval=REFRESH_SECONDS if sys.stderr.isatty() else LOG_FILE_SECONDS,
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def step(self, step: int, sums: Sums, learning_rate: float) -> None:
        """Takes in the sums of update number `step`, counted from 1."""
        self._pending.append(sums)
        self._bar.update()
        now = time.monotonic()
        if step % self._report_every == 0 or step == self._bar.total:
            figures = self._figures(now)
            self._log.write(step, "train", {**figures, "learning_rate": learning_rate})
            self._show(figures)
            self._pending, self._since = [], now
        elif now - self._shown > REFRESH_SECONDS:
            self._show(self._figures(now))

    def _figures(self, now: float) -> dict[str, float]:
        total = {
            name: sum(float(sums[name]) for sums in self._pending)
            for name in ("masked_lm_loss", "masked_lm_count", "stay_loss", "stay_count", "real_tokens")
        }
        seconds = max(now - self._since, 1e-9)
        return {
            "masked_lm_loss": total["masked_lm_loss"] / max(total["masked_lm_count"], 1),
            "next_sentence_loss": total["stay_loss"] / max(total["stay_count"], 1),
            "steps_per_second": len(self._pending) / seconds,
            "patients_per_second": total["stay_count"] / seconds,
            "real_tokens_per_second": total["real_tokens"] / seconds,
        }

    def _show(self, figures: dict[str, float]) -> None:
        self._shown = time.monotonic()
        self._bar.set_postfix_str(
            f"codes {figures['masked_lm_loss']:.3f}, stay {figures['next_sentence_loss']:.3f}, "
            f"{figures['patients_per_second']:,.0f} patients/s, "
            f"{figures['real_tokens_per_second']:,.0f} real tokens/s",
            refresh=False,
        )
