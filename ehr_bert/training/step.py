"""One update, and one look at held-out examples, on any number of replicas.

A loss is the sum over the whole global batch divided by its count (masked codes, patients): a mean of the
replicas' means would be another objective.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from ehr_bert.model.losses import masked_lm_sums, stay_sums
from ehr_bert.model.pretraining import PretrainingModel

Batch = dict[str, tf.Tensor]
Sums = dict[str, tf.Tensor]
"""Sums over a global batch: `masked_lm_*` and `stay_*` of `loss`, `correct` and `count`; `real_tokens`."""


def objective_sums(outputs: dict[str, Any], batch: Batch) -> Sums:
    """The sums of a batch, of the model's outputs for it."""
    masked_lm = masked_lm_sums(
        outputs["masked_lm_logits"], batch["masked_lm_ids"], batch["masked_lm_weights"]
    )
    stay = stay_sums(outputs["stay_logits"], batch["next_sentence_labels"], batch["example_weight"])
    return {
        **{f"masked_lm_{name}": value for name, value in masked_lm.items()},
        **{f"stay_{name}": value for name, value in stay.items()},
        "real_tokens": tf.reduce_sum(tf.cast(batch["input_mask"], tf.float32)),
    }


def build_train_step(
    strategy: tf.distribute.Strategy,
    model: PretrainingModel,
    optimizer: keras.optimizers.Optimizer,
    clip_norm: float,
) -> Callable[[Batch], Sums]:
    """The function that makes one update from a distributed batch and returns the batch's sums."""
    variables = model.trainable_variables

    def replica_step(batch: Batch) -> Sums:
        replica = tf.distribute.get_replica_context()
        with tf.GradientTape() as tape:
            sums = objective_sums(model(batch, training=True), batch)
            counts = replica.all_reduce("SUM", [sums["masked_lm_count"], sums["stay_count"]])
            masked_lm_count, stay_count = (tf.maximum(count, 1.0) for count in counts)
            loss = sums["masked_lm_loss"] / masked_lm_count + sums["stay_loss"] / stay_count
        # Under sum and mean pooling the pooler is not used, and has no gradient.
        gradients = tape.gradient(
            loss, [v.value for v in variables], unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        gradients = replica.all_reduce("SUM", [tf.convert_to_tensor(g) for g in gradients])
        gradients, _ = tf.clip_by_global_norm(gradients, clip_norm)
        # The optimizer sums over the replicas once more: each hands in its share of the whole.
        shares = [gradient / replica.num_replicas_in_sync for gradient in gradients]
        optimizer.apply(shares, variables)
        return sums

    @tf.function
    def train_step(batch: Batch) -> Sums:
        sums = strategy.run(replica_step, args=(batch,))
        return {name: strategy.reduce("SUM", value, axis=None) for name, value in sums.items()}

    return train_step


def build_eval_step(
    strategy: tf.distribute.Strategy, model: PretrainingModel
) -> Callable[[Batch], tuple[Sums, tf.Tensor]]:
    """The function that returns a distributed batch's sums and each example's risk, [B], of a long stay."""

    def replica_step(batch: Batch) -> tuple[Sums, tf.Tensor]:
        outputs = model(batch, training=False)
        return objective_sums(outputs, batch), tf.nn.softmax(outputs["stay_logits"])[:, 1]

    @tf.function
    def eval_step(batch: Batch) -> tuple[Sums, tf.Tensor]:
        sums, risks = strategy.run(replica_step, args=(batch,))
        total = {name: strategy.reduce("SUM", value, axis=None) for name, value in sums.items()}
        return total, strategy.gather(risks, axis=0)

    return eval_step
