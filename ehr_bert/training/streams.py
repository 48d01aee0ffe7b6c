"""Distribution of batches to the devices."""

import tensorflow as tf

from ehr_bert.examples.updates import UpdateBatches


def distributed_cells(
    strategy: tf.distribute.Strategy, updates: UpdateBatches, first_step: int = 0
) -> tf.distribute.DistributedDataset:
    """Return the cells of `updates` from `first_step`, each on its replica."""

    def cells(context: tf.distribute.InputContext) -> tf.data.Dataset:
        """Return the cells of the replicas of one worker."""
        worker_replicas = context.num_replicas_in_sync // context.num_input_pipelines
        first = context.input_pipeline_id * worker_replicas
        return updates.dataset(first_step, range(first, first + worker_replicas))

    return strategy.distribute_datasets_from_function(cells)
