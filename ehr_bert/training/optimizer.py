"""AdamW and LAMB. The training step clips the gradients, since it has all of them."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from ehr_bert.model.fusing import fused
from ehr_bert.training.recipe import Recipe
from ehr_bert.training.schedule import PhasedSchedule


class AdamW(keras.optimizers.AdamW):
    """AdamW (Loshchilov and Hutter 2019, algorithm 2). A weight is updated in one pass over memory."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable."""
        index = self._get_variable_index(variable)
        state = variable, self._momentums[index], self._velocities[index]
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
        """Do nothing, since `update_step` applies the weight decay."""


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
    """Return a weight after its update number `number`, and the moving averages of gradients and squares."""
    rate = ops.cast(learning_rate, weight.dtype)
    mean = mean + (gradient - mean) * (1 - betas[0])
    square = square + (ops.square(gradient) - square) * (1 - betas[1])
    unbiased_mean = mean / (1 - ops.power(betas[0], number))
    unbiased_square = square / (1 - ops.power(betas[1], number))
    update = unbiased_mean / (ops.sqrt(unbiased_square) + epsilon) + weight_decay * weight
    return weight - rate * update, mean, square


class Lamb(keras.optimizers.Lamb):
    """LAMB (You et al. 2020, algorithm 2). Its trust ratio includes the weight decay.

    The LAMB of Keras decays weights separately. Weights without decay have the plain update of Adam, as in
    the authors' program.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable."""
        index = self._get_variable_index(variable)
        mean, square = self._momentums[index], self._velocities[index]
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
        """Do nothing, since `update_step` applies the weight decay."""


def gradients_in_moments(optimizer: keras.optimizers.Optimizer) -> Any:
    """Return the number of gradients in the moments, including the next gradient, as a float32 tensor."""
    done = optimizer.iterations
    return ops.cast(ops.subtract(done + 1, optimizer.schedule.moments_begin(done)), "float32")


def clear_moments(optimizer: keras.optimizers.Optimizer) -> None:
    """Set both moving averages to 0, as before the first update."""
    for mean in (*optimizer._momentums, *optimizer._velocities):
        mean.assign(ops.zeros_like(mean))


def _trust_ratio(variable: Any, update: Any) -> Any:
    """Return the norm of a variable divided by that of its update, or 1 if one of them is 0."""
    weight_norm, update_norm = ops.norm(variable), ops.norm(update)
    both = ops.logical_and(weight_norm > 0, update_norm > 0)
    return ops.where(both, weight_norm / ops.where(both, update_norm, 1.0), 1.0)


def build_optimizer(
    recipe: Recipe, phase_steps: Sequence[int], variables: list[Any]
) -> keras.optimizers.Optimizer:
    """Build the optimizer of a recipe. Its learning rate follows the schedule of all phases.

    Args:
        recipe: The recipe.
        phase_steps: Number of updates of each phase.
        variables: Weights to train.
    """
    settings = recipe.optimizer
    optimizer_types: dict[str, Any] = {"adamw": AdamW, "lamb": Lamb}
    schedule = PhasedSchedule(recipe.phases, phase_steps)
    optimizer = optimizer_types[settings.name](
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
