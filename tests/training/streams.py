"""Small random batches with the interface of `UpdateBatches`."""

import numpy as np
import tensorflow as tf

from ehr_bert.examples.layout import Layout
from tests.model.small import LAYOUT, random_batch


class RandomUpdates:
    """Endless updates of one layout, or `steps` batches. An update depends only on its number."""

    def __init__(
        self,
        micro_batches=1,
        replicas=1,
        layout: Layout = LAYOUT,
        steps=None,
        seed=0,
        broken=(),
        different=20,
    ):
        self.layout, self.micro_batches, self.replicas, self.steps = layout, micro_batches, replicas, steps
        self.updates_per_epoch = 10.0
        cells = micro_batches * replicas
        updates = [
            [random_batch(1000 * seed + cells * update + cell, layout) for cell in range(cells)]
            for update in range(different)
        ]
        for number, update in enumerate(updates):
            for total, weights in (("masked_total", "masked_weights"), ("patient_total", "patient_weights")):
                whole = np.float32(sum(cell[weights].sum() for cell in update))
                for cell in update:
                    cell[total] = whole
            if number in broken:  # these updates have weights that are not finite
                update[0]["masked_weights"] = np.full_like(update[0]["masked_weights"], np.nan)
        self.updates = updates

    def dataset(self, first_step=0, replicas=None):
        own = replicas or range(self.replicas)
        chosen = [j * self.replicas + r for j in range(self.micro_batches) for r in own]
        names = self.updates[0][0]
        table = {
            name: tf.constant(np.stack([[update[cell][name] for cell in chosen] for update in self.updates]))
            for name in names
        }
        steps = tf.data.Dataset.range(first_step, self.steps or 100_000)
        return steps.map(
            lambda step: {name: values[step % len(self.updates)] for name, values in table.items()}
        ).unbatch()
