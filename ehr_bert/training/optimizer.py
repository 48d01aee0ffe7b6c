"""AdamW under a learning rate that warms up and decays."""

from typing import Any

import keras
from keras import ops

from ehr_bert.training.recipe import Recipe


class WarmupThenDecay(keras.optimizers.schedules.LearningRateSchedule):
    """BERT's schedule: `peak * t / warmup_steps` at first, then `peak * (1 - t / steps)`."""

    def __init__(self, peak: float, warmup_steps: int, steps: int):
        self.peak = peak
        self.warmup_steps = warmup_steps
        self.steps = steps

    def __call__(self, step: Any) -> Any:
        """The learning rate of the update number `step`, counted from 0."""
        done = ops.cast(step, "float32")
        rising = done / max(self.warmup_steps, 1)
        falling = ops.maximum(1.0 - done / self.steps, 0.0)
        return self.peak * ops.where(done < self.warmup_steps, rising, falling)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"peak": self.peak, "warmup_steps": self.warmup_steps, "steps": self.steps}


def build_optimizer(recipe: Recipe, variables: list[Any]) -> keras.optimizers.Optimizer:
    """AdamW (Loshchilov and Hutter 2019) over `variables`, with BERT's constants.

    Biases and layer normalisations don't decay. Gradients are clipped by the step, which knows all of them.
    """
    optimizer = keras.optimizers.AdamW(
        learning_rate=WarmupThenDecay(recipe.learning_rate, recipe.warmup_steps, recipe.steps),
        weight_decay=recipe.weight_decay,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-6,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    optimizer.build(variables)
    return optimizer
