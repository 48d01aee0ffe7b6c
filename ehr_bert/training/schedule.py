"""Learning-rate schedule: each phase warms up to its peak, and then decays."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from ehr_bert.training.recipe import Phase


class PhasedSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rates of consecutive phases.

    In a phase of `n` updates, `w` of them warm-up, update `t` (from 0) has the rate `peak * t / w` while `t <
    w`. Then it has `peak * (1 - t / n)` with linear decay, as in BERT, `peak * (1 + cos(pi * (t - w) / (n -
    w))) / 2` with cosine decay (Loshchilov and Hutter 2017), or `peak`. After the last phase the rate stays
    at its end.

    Args:
        phases: The phases.
        phase_steps: Number of updates of each phase.
    """

    def __init__(self, phases: Sequence[Phase], phase_steps: Sequence[int]):
        self.phases = tuple(phases)
        self.phase_steps = tuple(phase_steps)

    def __call__(self, step: Any) -> Any:
        """Return the learning rate of update `step`, counted from 0 over all phases."""
        rate, start = 0.0, 0
        for phase, steps in zip(self.phases, self.phase_steps, strict=True):
            # The subtraction is in integers, since float32 is exact only up to 16 million.
            in_phase = _rate(phase, steps, ops.cast(step - start, "float32"))
            rate = ops.where(step >= start, in_phase, rate)
            start += steps
        return rate

    def moments_begin(self, step: Any) -> Any:
        """Return the update, counted from 0, at which the moments of update `step` were last cleared."""
        begin, start = 0, 0
        for phase, steps in zip(self.phases, self.phase_steps, strict=True):
            if phase.carry_over != "moments":
                begin = ops.where(step >= start, start, begin)
            start += steps
        return begin

    def get_config(self) -> dict[str, Any]:
        """Return the phases and their numbers of updates."""
        return {"phases": [phase.to_dict() for phase in self.phases], "phase_steps": list(self.phase_steps)}


def _rate(phase: Phase, steps: int, done: Any) -> Any:
    """Return the rate after `done` updates of a phase, a float32 tensor."""
    warmup = phase.warmup(steps)
    if phase.decay == "linear":
        share = ops.maximum(1.0 - done / steps, 0.0)
    elif phase.decay == "cosine":
        progress = (done - warmup) / max(steps - warmup, 1)
        share = (1.0 + ops.cos(math.pi * ops.clip(progress, 0.0, 1.0))) / 2
    else:
        share = ops.ones_like(done)
    return phase.learning_rate * ops.where(done < warmup, done / max(warmup, 1), share)
