"""The learning rate by update: each phase warms up to its peak, and goes on in its own way."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from ehr_bert.training.recipe import Phase


class PhasedSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """The rates of all phases, one after the other.

    In a phase of `S` updates with `W` of warm-up, update `t` (from 0) has `peak * t / W` while `t < W`; then
    `peak * (1 - t / S)` by linear decay as in BERT, `peak * (1 + cos(pi * (t - W) / (S - W))) / 2` by cosine
    decay (Loshchilov and Hutter 2017), or `peak`. After the last phase the rate is that at its end.
    """

    def __init__(self, phases: Sequence[Phase], phase_steps: Sequence[int]):
        """Makes the schedule of `phases` that have `phase_steps` updates each."""
        self.phases = tuple(phases)
        self.phase_steps = tuple(phase_steps)

    def __call__(self, step: Any) -> Any:
        """The learning rate of the update number `step`, counted from 0 over all phases."""
        rate, start = 0.0, 0
        for phase, steps in zip(self.phases, self.phase_steps, strict=True):
            # Subtracted as whole numbers: float32 knows each of them only up to 16 million.
            in_phase = _rate(phase, steps, ops.cast(step - start, "float32"))
            rate = ops.where(step >= start, in_phase, rate)
            start += steps
        return rate

    def moments_begin(self, step: Any) -> Any:
        """The update, counted from 0, with which those moments began that count at update number `step`."""
        begin, start = 0, 0
        for phase, steps in zip(self.phases, self.phase_steps, strict=True):
            if phase.carry_over != "moments":
                begin = ops.where(step >= start, start, begin)
            start += steps
        return begin

    def get_config(self) -> dict[str, Any]:
        """The phases as they are stated, and their updates."""
        return {"phases": [phase.to_dict() for phase in self.phases], "phase_steps": list(self.phase_steps)}


def _rate(phase: Phase, steps: int, done: Any) -> Any:
    """The rate after `done` updates of a phase, a float32 tensor."""
    warmup = phase.warmup(steps)
    if phase.decay == "linear":
        share = ops.maximum(1.0 - done / steps, 0.0)
    elif phase.decay == "cosine":
        progress = (done - warmup) / max(steps - warmup, 1)
        share = (1.0 + ops.cos(math.pi * ops.clip(progress, 0.0, 1.0))) / 2
    else:
        share = ops.ones_like(done)
    return phase.learning_rate * ops.where(done < warmup, done / max(warmup, 1), share)
