"""AdamW and LAMB, with gradients clipped by the step, which knows all of them."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from ehr_bert.model.fusing import fused
from ehr_bert.training.recipe import Recipe
from ehr_bert.training.schedule import PhasedSchedule


class AdamW(keras.optimizers.AdamW):
    """AdamW (Loshchilov and Hutter 2019, algorithm 2), all of a weight's update in one pass over memory."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable."""
        place = self._get_variable_index(variable)
        state = variable, self._momentums[place], self._velocities[place]
        updated = fused(
            adamw_update,
            *(gradient, *state, gradients_in_moments(self), learning_rate),
            betas=(self.beta_1, self.beta_2),
            epsilon=self.epsilon,
            weight_decay=self.weight_decay if self._use_weight_decay(variable) else 0.0,
        )
        for old, new in zip(state, updated, strict=True):
            self.assign(old, new)

    def _apply_weight_decay(self, variables: Any) -> None:
        """Decays nothing: `update_step` does."""


def adamw_update(
    gradient: Any,
    weight: Any,
    mean: Any,
    square: Any,
    number: Any,
    learning_rate: Any,
    *,
    betas: tuple[float, float],
    epsilon: float,
    weight_decay: float,
) -> tuple[Any, Any, Any]:
    """A weight after an update, and the means of its `number` gradients and of their squares."""
    rate = ops.cast(learning_rate, weight.dtype)
    mean = mean + (gradient - mean) * (1 - betas[0])
    square = square + (ops.square(gradient) - square) * (1 - betas[1])
    unbiased_mean = mean / (1 - ops.power(betas[0], number))
    unbiased_square = square / (1 - ops.power(betas[1], number))
    update = unbiased_mean / (ops.sqrt(unbiased_square) + epsilon) + weight_decay * weight
    return weight - rate * update, mean, square


class Lamb(keras.optimizers.Lamb):
    """LAMB (You et al. 2020, algorithm 2), whose trust ratio takes in weight decay.

    Keras' own decays weights beside it. Weights without decay have the plain update of Adam, as in the
    authors' program.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable."""
        place = self._get_variable_index(variable)
        mean, square = self._momentums[place], self._velocities[place]
        done = ops.cast(gradients_in_moments(self), variable.dtype)
        self.assign_add(mean, (gradient - mean) * (1 - self.beta_1))
        self.assign_add(square, (ops.square(gradient) - square) * (1 - self.beta_2))
        unbiased_mean = mean / (1 - ops.power(self.beta_1, done))
        unbiased_square = square / (1 - ops.power(self.beta_2, done))
        update = unbiased_mean / (ops.sqrt(unbiased_square) + self.epsilon)
        if self._use_weight_decay(variable):
            update += self.weight_decay * variable
            update *= _trust_ratio(variable, update)
        self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * update)

    def _apply_weight_decay(self, variables: Any) -> None:
        """Decays nothing: `update_step` does."""


def gradients_in_moments(optimizer: keras.optimizers.Optimizer) -> Any:
    """How many gradients the optimizer's moments are made of, the one to come too; a float32 tensor."""
    done = optimizer.iterations
    return ops.cast(ops.subtract(done + 1, optimizer.schedule.moments_begin(done)), "float32")


def clear_moments(optimizer: keras.optimizers.Optimizer) -> None:
    """Sets both means to 0, as they are before the first update."""
    for mean in (*optimizer._momentums, *optimizer._velocities):
        mean.assign(ops.zeros_like(mean))


def _trust_ratio(variable: Any, update: Any) -> Any:
    """How large a variable is against its update; 1 where either is 0."""
    weight_norm, update_norm = ops.norm(variable), ops.norm(update)
    both = ops.logical_and(weight_norm > 0, update_norm > 0)
    return ops.where(both, weight_norm / ops.where(both, update_norm, 1.0), 1.0)


def build_optimizer(
    recipe: Recipe, phase_steps: Sequence[int], variables: list[Any]
) -> keras.optimizers.Optimizer:
    """The recipe's optimizer over `variables`, its learning rate that of all phases.

    Args:
        recipe: How to train.
        phase_steps: Updates of each phase.
        variables: The weights to train.
    """
    settings = recipe.optimizer
    kinds: dict[str, Any] = {"adamw": AdamW, "lamb": Lamb}
    schedule = PhasedSchedule(recipe.phases, phase_steps)
    optimizer = kinds[settings.name](
        learning_rate=schedule,
        weight_decay=settings.weight_decay,
        beta_1=settings.beta_1,
        beta_2=settings.beta_2,
        epsilon=settings.epsilon,
    )
    optimizer.schedule = schedule
    optimizer.exclude_from_weight_decay(var_names=list(settings.no_decay))
    optimizer.build(variables)
    return optimizer
