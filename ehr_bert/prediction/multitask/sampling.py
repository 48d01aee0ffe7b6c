"""Which task each update of the joint training takes, and which of its examples."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ehr_bert.prediction.batches import shuffled_rows


@dataclass(frozen=True)
class TaskSampler:
    """Draws a task for each update, with a probability in proportion to a power of its size.

    The task of an update follows from the seed and the update's number, so that the draws can begin anywhere.

    Attributes:
        sizes: Training examples of each task.
        power: 1 draws tasks by size, 0 all alike, 0.5 is between (Stickland and Murray 2019).
        seed: Decides the draws.
    """

    sizes: tuple[int, ...]
    power: float
    seed: int

    @property
    def shares(self) -> np.ndarray:
        """The probability of each task: float64 `[tasks]`."""
        powers = np.asarray(self.sizes, float) ** self.power
        return powers / powers.sum()

    def draw(self, first: int, updates: int) -> np.ndarray:
        """The tasks of so many updates, from number `first` on, counted from 0: int64 `[updates]`."""
        # One draw takes one step of this generator, so that it can be moved to any update.
        generator = np.random.Generator(np.random.PCG64(self.seed).advance(first))
        borders = np.cumsum(self.shares)[:-1]
        return np.searchsorted(borders, generator.random(updates), side="right")


def endless_batches(lengths: np.ndarray, batch_examples: int, seed: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Batches of one task: each epoch has every example once, in another order.

    Args:
        lengths: Tokens of each example: int64 `[N]`.
        batch_examples: Examples of a batch.
        seed: Decides the order.

    Yields:
        The examples of a batch: int64 `[B]`.
    """
    rng = np.random.default_rng(seed)
    while True:
        yield from shuffled_rows(lengths, batch_examples, rng)
