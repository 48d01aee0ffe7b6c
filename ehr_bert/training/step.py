"""One update, and one look at held-out examples, on any number of replicas and of micro-batches.

A loss is the sum over the whole update divided by its count (masked codes, patients): a mean of the replicas'
or micro-batches' means would be another objective. The counts come with the batch, so gradients need only be
added up.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import keras
import tensorflow as tf

from ehr_bert.examples.layout import Layout
from ehr_bert.examples.updates import CORPUS_COUNTS
from ehr_bert.model.fusing import fused_chains
from ehr_bert.model.pretraining import BatchTensors, PretrainingModel
from ehr_bert.training.vocabulary_loss import vocabulary_loss, vocabulary_ranks

Sums = dict[str, tf.Tensor]
"""Sums over an update: `masked_lm_*` and `stay_*` of `loss`, `correct` and `count`; `real_tokens`; of a
mixture's corpora `corpus_patients_<place>` and `corpus_tokens_<place>`.

An update's also have its `gradient_norm`, before clipping, and `skipped`: 1 if it was not finite.
"""

TOP = (5, 10)
"""Ranks up to which an evaluation counts a masked code as found, beside the first."""


@dataclass(frozen=True)
class Objectives:
    """Weights of the two losses; an objective whose weight is 0 is not computed."""

    masked_codes: float = 1.0
    prolonged_stay: float = 1.0


def build_train_step(
    strategy: tf.distribute.Strategy,
    model: PretrainingModel,
    optimizer: keras.optimizers.Optimizer,
    layout: Layout,
    micro_batches: int,
    objectives: Objectives,
    clip_norm: float,
    compiled: bool = True,
) -> Callable[[Iterator[BatchTensors]], Sums]:
    """The function that makes one update from the next micro-batches of an iterator, and returns its sums.

    An update whose loss or gradient is not finite leaves weights and slots as they are, and counts as one.

    Args:
        strategy: Where the model was made.
        model: The model.
        optimizer: Built for the model's variables.
        layout: The shape of a replica's micro-batch.
        micro_batches: Micro-batches of an update.
        objectives: Weights of the losses.
        clip_norm: Largest global norm of a gradient; 0 for any.
        compiled: Whether XLA compiles: on a CPU chains of elementwise operations, elsewhere the whole
            micro-batch.
    """
    variables = model.trainable_variables
    gradients_of = _compiled(_Gradients(model, layout, objectives), strategy, compiled)

    def combine(gradients: list[tf.Tensor], sums: Sums) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
        replica = tf.distribute.get_replica_context()
        gradients = replica.all_reduce("SUM", gradients)
        norm = tf.linalg.global_norm(gradients)
        loss = replica.all_reduce("SUM", sums["masked_lm_loss"] + sums["stay_loss"])
        finite = tf.math.is_finite(norm) & tf.math.is_finite(loss)
        if clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, clip_norm, use_norm=norm)
        return gradients, norm, finite

    def apply(gradients: list[tf.Tensor]) -> None:
        # The optimizer sums over the replicas once more: each hands in its share of the whole.
        replicas = strategy.num_replicas_in_sync
        shares = [gradient / replicas for gradient in gradients] if replicas > 1 else gradients
        with fused_chains() if compiled else nullcontext():
            optimizer.apply(shares, variables)

    def one(values: tf.distribute.DistributedValues) -> tf.Tensor:
        return strategy.experimental_local_results(values)[0]

    def finish(gradients: list[tf.Tensor], sums: Sums) -> Sums:
        """Applies the replicas' gradients, and adds up the replicas' sums."""
        combined, norm, finite = strategy.run(combine, args=(gradients, sums))

        def skip() -> tf.Tensor:
            optimizer.iterations.assign_add(1)
            return tf.constant(1.0)

        def update() -> tf.Tensor:
            strategy.run(apply, args=(combined,))
            return tf.constant(0.0)

        total = {name: strategy.reduce("SUM", value, axis=None) for name, value in sums.items()}
        return {**total, "gradient_norm": one(norm), "skipped": tf.cond(one(finite), update, skip)}

    if micro_batches == 1:

        @tf.function
        def whole(batch: BatchTensors) -> Sums:
            gradients, sums = strategy.run(gradients_of, args=(batch,))
            return finish(gradients, sums)

        return lambda batches: whole(next(batches))

    with strategy.scope():
        kept = [_accumulator(variable.shape) for variable in variables]
        kept_sums = {name: _accumulator(()) for name in (*SUM_NAMES, *corpus_sums(layout.corpora))}

    def add(batch: BatchTensors) -> None:
        gradients, sums = gradients_of(batch)
        for total, value in zip(kept, gradients, strict=True):
            total.assign_add(value)
        for name, value in sums.items():
            kept_sums[name].assign_add(value)

    def take() -> tuple[list[tf.Tensor], Sums]:
        gradients = [tf.identity(total) for total in kept]
        sums = {name: tf.identity(total) for name, total in kept_sums.items()}
        with tf.control_dependencies([*gradients, *sums.values()]):
            for total in (*kept, *kept_sums.values()):
                total.assign(tf.zeros(total.shape))
        return gradients, sums

    @tf.function
    def accumulate(batch: BatchTensors) -> None:
        strategy.run(add, args=(batch,))

    @tf.function
    def complete() -> Sums:
        return finish(*strategy.run(take))

    def train_step(batches: Iterator[BatchTensors]) -> Sums:
        for _ in range(micro_batches):
            accumulate(next(batches))
        return complete()

    return train_step


SUM_NAMES = (
    *(f"{objective}_{name}" for objective in ("masked_lm", "stay") for name in ("loss", "correct", "count")),
    "real_tokens",
)
"""Names of a micro-batch's sums."""


def corpus_sums(corpora: int) -> dict[str, tuple[str, int]]:
    """The names of a mixture's sums: of each what the batch calls it, and the corpus' place there."""
    return {f"{name}_{place}": (name, place) for name in CORPUS_COUNTS for place in range(corpora)}


def _accumulator(shape: tuple[int, ...]) -> tf.Variable:
    """A variable of which each replica has its own value."""
    return tf.Variable(
        tf.zeros(shape),
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
    )


class _Gradients:
    """A micro-batch's part of the gradients and sums of its update."""

    def __init__(self, model: PretrainingModel, layout: Layout, objectives: Objectives):
        self.model = model
        self.layout = layout
        self.objectives = objectives

    def __call__(self, batch: BatchTensors) -> tuple[list[tf.Tensor], Sums]:
        model, weigh = self.model, self.objectives
        table, bias = (variable.value for variable in model.output_table())
        variables = [variable.value for variable in model.trainable_variables]
        masked_scale = weigh.masked_codes / tf.maximum(batch["masked_total"], 1.0)
        stay_scale = weigh.prolonged_stay / tf.maximum(batch["patients_total"], 1.0)
        sums = {name: tf.zeros(()) for name in SUM_NAMES}
        sums["real_tokens"] = _real_tokens(batch)
        for name, (counts, place) in corpus_sums(self.layout.corpora).items():
            sums[name] = batch[counts][place]

        targets, upstream = [], []
        with tf.GradientTape() as tape:
            vectors, stay_logits = model.vectors(batch, self.layout, training=True)  # [M, H], [S, 2]
            if weigh.prolonged_stay:
                stay = stay_sums(stay_logits, batch)
                targets.append(stay["stay_loss"])
                upstream.append(stay_scale)
                sums |= stay
        if weigh.masked_codes:
            weights = batch["masked_weights"]
            found = vocabulary_loss(vectors, table, bias, batch["masked_ids"], weights * masked_scale)
            sums["masked_lm_loss"] = found.loss / masked_scale
            sums["masked_lm_correct"] = found.correct / masked_scale
            sums["masked_lm_count"] = tf.reduce_sum(weights)
            targets.append(vectors)
            upstream.append(found.d_vectors)
        gradients = tape.gradient(
            targets, variables, upstream, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        if weigh.masked_codes:
            places = {id(variable): place for place, variable in enumerate(variables)}
            of_table, of_bias = places[id(table)], places[id(bias)]
            gradients[of_table] = _added(found.d_table, gradients[of_table])
            gradients[of_bias] = found.d_bias
        return [tf.convert_to_tensor(gradient) for gradient in gradients], sums


def _added(dense: tf.Tensor, gradient: tf.Tensor | tf.IndexedSlices) -> tf.Tensor:
    """Both gradients of the token embeddings together: as the output's table, and as the input's."""
    if isinstance(gradient, tf.IndexedSlices):
        values = tf.cast(gradient.values, dense.dtype)
        return tf.tensor_scatter_nd_add(dense, gradient.indices[:, None], values)
    return dense + gradient


def stay_sums(logits: tf.Tensor, batch: BatchTensors) -> Sums:
    """Sums of the prolonged stay, of logits [S, 2]."""
    labels, weights = batch["stay_labels"], batch["stay_weights"]  # [S]
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, tf.cast(logits, tf.float32))
    right = tf.equal(tf.argmax(logits, axis=1, output_type=labels.dtype), labels)
    return {
        "stay_loss": tf.reduce_sum(weights * losses),
        "stay_correct": tf.reduce_sum(weights * tf.cast(right, tf.float32)),
        "stay_count": tf.reduce_sum(weights),
    }


def _real_tokens(batch: BatchTensors) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(batch["patient_ids"] > 0, tf.float32))


def _compiled(function: Callable, strategy: tf.distribute.Strategy, compiled: bool) -> Callable:
    """`function`, to be called by a replica, as `build_train_step` says."""
    if not compiled:
        return function
    if tf.config.list_logical_devices("GPU") or isinstance(strategy, tf.distribute.TPUStrategy):
        return tf.function(function, jit_compile=True)

    def chained(batch: BatchTensors) -> tuple:
        with fused_chains():
            return function(batch)

    return chained


def build_eval_step(
    strategy: tf.distribute.Strategy, model: PretrainingModel, layout: Layout, compiled: bool = True
) -> Callable[[BatchTensors], tuple[Sums, dict[str, tf.Tensor]]]:
    """The function that looks at one distributed batch.

    It returns the sums, with `masked_lm_top_5` and `masked_lm_top_10`, and of all replicas' patients and
    masked codes `stay_risks`, `stay_labels`, `stay_weights`, `masked_ids` and `masked_weights`.
    """

    def look(batch: BatchTensors) -> tuple[Sums, dict[str, tf.Tensor]]:
        vectors, stay_logits = model.vectors(batch, layout)
        table, bias = (variable.value for variable in model.output_table())
        weights = batch["masked_weights"]
        losses, ranks = vocabulary_ranks(vectors, table, bias, batch["masked_ids"])  # [M]

        def up_to(rank: int) -> tf.Tensor:
            return tf.reduce_sum(weights * tf.cast(ranks < rank, tf.float32))

        sums = {
            "masked_lm_loss": tf.reduce_sum(weights * losses),
            "masked_lm_correct": up_to(1),
            **{f"masked_lm_top_{rank}": up_to(rank) for rank in TOP},
            "masked_lm_count": tf.reduce_sum(weights),
            **stay_sums(stay_logits, batch),
            "real_tokens": _real_tokens(batch),
        }
        kept = ("stay_labels", "stay_weights", "masked_ids", "masked_weights")
        risks = tf.nn.softmax(tf.cast(stay_logits, tf.float32))[:, 1]
        return sums, {"stay_risks": risks, **{name: batch[name] for name in kept}}

    replica_step = _compiled(look, strategy, compiled)

    @tf.function
    def eval_step(batch: BatchTensors) -> tuple[Sums, dict[str, tf.Tensor]]:
        sums, outputs = strategy.run(replica_step, args=(batch,))
        total = {name: strategy.reduce("SUM", value, axis=None) for name, value in sums.items()}
        return total, {name: strategy.gather(value, axis=0) for name, value in outputs.items()}

    return eval_step
