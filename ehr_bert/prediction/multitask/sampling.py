"""Sampling of the joint training: the task of each update, and the examples of each batch."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ehr_bert.prediction.batches import shuffled_rows


@dataclass(frozen=True)
class TaskSampler:
    """Draws a task for each update, with a probability in proportion to a power of its size.

    The task of an update depends only on the seed and the number of the update, so draws can start anywhere.

    Attributes:
        sizes: Number of training examples of each task.
        power: 1 draws tasks in proportion to their size, 0 equally often; 0.5 is between (Stickland and
            Murray 2019).
        seed: Random seed.
    """

    sizes: tuple[int, ...]
    power: float
    seed: int

    @property
    def shares(self) -> np.ndarray:
        """Probability of each task: float64 `[tasks]`."""
        powers = np.asarray(self.sizes, float) ** self.power
        return powers / powers.sum()

    def draw(self, first: int, updates: int) -> np.ndarray:
        """Return the tasks of `updates` updates, starting at update `first` (from 0): int64 `[updates]`."""
        # Each draw advances this generator by one step, so it can start at any update.
        generator = np.random.Generator(np.random.PCG64(self.seed).advance(first))
        borders = np.cumsum(self.shares)[:-1]
        return np.searchsorted(borders, generator.random(updates), side="right")


def endless_batches(lengths: np.ndarray, batch_examples: int, seed: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Iterate over batches of one task. Each epoch contains every example once, in a new order.

    Args:
        lengths: Number of tokens of each example: int64 `[N]`.
        batch_examples: Number of examples per batch.
        seed: Random seed of the order.

    Yields:
        Rows of the examples of a batch: int64 `[B]`.
    """
    rng = np.random.default_rng(seed)
    while True:
        yield from shuffled_rows(lengths, batch_examples, rng)
