"""AdamW and LAMB, with gradients clipped by the step, which knows all of them."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from ehr_bert.training.recipe import Recipe
from ehr_bert.training.schedule import PhasedSchedule


class Lamb(keras.optimizers.Lamb):
    """LAMB (You et al. 2020, algorithm 2), whose trust ratio takes in weight decay.

    Keras' own decays weights beside it. Weights without decay have the plain update of Adam, as in the
    authors' program.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable."""
        place = self._get_variable_index(variable)
        mean, square = self._momentums[place], self._velocities[place]
        done = ops.cast(self.iterations + 1, variable.dtype)
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
    kind = {"adamw": keras.optimizers.AdamW, "lamb": Lamb}[settings.name]
    optimizer = kind(
        learning_rate=PhasedSchedule(recipe.phases, phase_steps),
        weight_decay=settings.weight_decay,
        beta_1=settings.beta_1,
        beta_2=settings.beta_2,
        epsilon=settings.epsilon,
    )
    optimizer.exclude_from_weight_decay(var_names=list(settings.no_decay))
    optimizer.build(variables)
    return optimizer
