"""One update, and one evaluation batch, on any number of replicas and micro-batches.

The loss of an objective is the sum over the whole update divided by the sum of its weights (the number of
masked codes, or of patients). A mean of the replicas' or micro-batches' means would be another objective. The
batch contains the totals of the weights, so that gradients are simply added.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import keras
import tensorflow as tf

from ehr_bert.examples.layout import Layout
from ehr_bert.examples.updates import CORPUS_COUNTS
from ehr_bert.model.fusing import fused_chains
from ehr_bert.model.pretraining import BatchTensors, PretrainingModel
from ehr_bert.objectives.objective import Objective

Sums = dict[str, tf.Tensor]
"""Sums over an update, by name: of each objective `<prefix>_count` and its `sum_names`, such as
`<prefix>_loss`; `real_tokens` and `patients`; of the corpora of a mixture `corpus_patients_<number>` and
`corpus_tokens_<number>`.

The sums of an update also have its `gradient_norm`, before clipping, and `skipped`, which is 1 if the loss or
the gradient was not finite.
"""

Objectives = Mapping[str, Objective[Any]]
"""Objectives to train, by name."""


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
    """Build the function that makes one update from the next micro-batches of an iterator.

    An update whose loss or gradient is not finite is counted, but changes neither weights nor moments.

    Args:
        strategy: Strategy under which the model was built.
        model: The model.
        optimizer: Optimizer, built for the variables of the model.
        layout: Shape of a replica's micro-batch.
        micro_batches: Number of micro-batches per update.
        objectives: Objectives to train.
        clip_norm: Maximum global norm of the gradient; 0 to disable clipping.
        compiled: Whether XLA compiles: on a CPU chains of elementwise operations, elsewhere the whole
            micro-batch.

    Returns:
        A function that returns the sums of the update.
    """
    variables = model.trainable_variables
    gradients_of = _compiled(_Gradients(model, layout, objectives), strategy, compiled)

    def combine(gradients: list[tf.Tensor], sums: Sums) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
        replica = tf.distribute.get_replica_context()
        gradients = replica.all_reduce("SUM", gradients)
        norm = tf.linalg.global_norm(gradients)
        losses = [sums[f"{objective.prefix}_loss"] for objective in objectives.values()]
        loss = replica.all_reduce("SUM", tf.add_n(losses))
        finite = tf.math.is_finite(norm) & tf.math.is_finite(loss)
        if clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, clip_norm, use_norm=norm)
        return gradients, norm, finite

    def apply(gradients: list[tf.Tensor]) -> None:
        # The optimizer sums over the replicas once more, so each passes its share of the sum.
        replicas = strategy.num_replicas_in_sync
        shares = [gradient / replicas for gradient in gradients] if replicas > 1 else gradients
        with fused_chains() if compiled else nullcontext():
            optimizer.apply(shares, variables)

    def of_first_replica(values: tf.distribute.DistributedValues) -> tf.Tensor:
        return strategy.experimental_local_results(values)[0]

    def finish(gradients: list[tf.Tensor], sums: Sums) -> Sums:
        """Apply the gradients of the replicas, and add up their sums."""
        combined, norm, finite = strategy.run(combine, args=(gradients, sums))

        def skip() -> tf.Tensor:
            optimizer.iterations.assign_add(1)
            return tf.constant(1.0)

        def update() -> tf.Tensor:
            strategy.run(apply, args=(combined,))
            return tf.constant(0.0)

        total = {name: strategy.reduce("SUM", value, axis=None) for name, value in sums.items()}
        return {
            **total,
            "gradient_norm": of_first_replica(norm),
            "skipped": tf.cond(of_first_replica(finite), update, skip),
        }

    if micro_batches == 1:

        @tf.function
        def whole(batch: BatchTensors) -> Sums:
            gradients, sums = strategy.run(gradients_of, args=(batch,))
            return finish(gradients, sums)

        return lambda batches: whole(next(batches))

    with strategy.scope():
        gradient_totals = [_accumulator(variable.shape) for variable in variables]
        sum_totals = {name: _accumulator(()) for name in _sum_names(objectives, layout)}

    def add(batch: BatchTensors) -> None:
        gradients, sums = gradients_of(batch)
        for total, value in zip(gradient_totals, gradients, strict=True):
            total.assign_add(value)
        for name, value in sums.items():
            sum_totals[name].assign_add(value)

    def take() -> tuple[list[tf.Tensor], Sums]:
        gradients = [tf.identity(total) for total in gradient_totals]
        sums = {name: tf.identity(total) for name, total in sum_totals.items()}
        with tf.control_dependencies([*gradients, *sums.values()]):
            for total in (*gradient_totals, *sum_totals.values()):
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


def _sum_names(objectives: Objectives, layout: Layout) -> list[str]:
    """Return the names of the sums of a micro-batch."""
    return [
        *(
            f"{objective.prefix}_{name}"
            for objective in objectives.values()
            for name in (*objective.sum_names, "count")
        ),
        *("real_tokens", "patients"),
        *corpus_sums(layout.corpora),
    ]


def corpus_sums(corpora: int) -> dict[str, tuple[str, int]]:
    """Return the sums of a mixture by name: each a tensor of the batch and the number of the corpus in it."""
    return {f"{name}_{number}": (name, number) for name in CORPUS_COUNTS for number in range(corpora)}


def _accumulator(shape: tuple[int, ...]) -> tf.Variable:
    """Make a variable with a separate value on each replica."""
    return tf.Variable(
        tf.zeros(shape),
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
    )


class _Gradients:
    """Computes a micro-batch's part of the gradients and sums of its update."""

    def __init__(self, model: PretrainingModel, layout: Layout, objectives: Objectives):
        self.model = model
        self.layout = layout
        self.objectives = objectives

    def __call__(self, batch: BatchTensors) -> tuple[list[tf.Tensor], Sums]:
        model, variables = self.model, self.model.trainable_variables
        sums = _batch_sums(batch)
        for name, (counts, number) in corpus_sums(self.layout.corpora).items():
            sums[name] = batch[counts][number]

        outputs: dict[str, tf.Tensor] = {}
        targets, upstream = [], []
        with tf.GradientTape() as tape:
            hidden = model.encoder(batch, layout=self.layout, training=True)  # [P, H]
            for name, objective in self.objectives.items():
                outputs[name] = model.heads[name](hidden, batch, layout=self.layout)
                if not objective.computes_gradients:
                    losses = objective.loss(outputs[name], batch)
                    targets.append(losses["loss"])
                    upstream.append(_scale(objective, batch))
                    sums |= _named_sums(objective, losses, batch)
        added: list[tuple[keras.Variable, tf.Tensor]] = []
        for name, objective in self.objectives.items():
            if objective.computes_gradients:
                scale = _scale(objective, batch)
                result = objective.loss_with_gradients(model, outputs[name], batch, scale)
                targets.append(outputs[name])
                upstream.append(result.d_outputs)
                added += result.d_variables
                sums |= _named_sums(objective, result.sums, batch)
        gradients = tape.gradient(
            targets,
            [variable.value for variable in variables],
            upstream,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        numbers = {id(variable): number for number, variable in enumerate(variables)}
        for variable, gradient in added:
            number = numbers[id(variable)]
            gradients[number] = _added(gradient, gradients[number])
        return [tf.convert_to_tensor(gradient) for gradient in gradients], sums


def _added(dense: tf.Tensor, gradient: tf.Tensor | tf.IndexedSlices) -> tf.Tensor:
    """Add two gradients of a variable, such as those of a table of embeddings that is used twice."""
    if isinstance(gradient, tf.IndexedSlices):
        values = tf.cast(gradient.values, dense.dtype)
        return tf.tensor_scatter_nd_add(dense, gradient.indices[:, None], values)
    return dense + gradient


def _scale(objective: Objective[Any], batch: BatchTensors) -> tf.Tensor:
    """Return the factor of an objective's loss in the update."""
    return objective.settings.weight / tf.maximum(batch[objective.total], 1.0)


def _named_sums(objective: Objective[Any], sums: Sums, batch: BatchTensors) -> Sums:
    """Return the sums of an objective, and the sum of its weights, by their names in an update."""
    sums = sums | {"count": tf.reduce_sum(batch[objective.weights])}
    return {f"{objective.prefix}_{name}": value for name, value in sums.items()}


def _batch_sums(batch: BatchTensors) -> Sums:
    return {
        "real_tokens": tf.reduce_sum(tf.cast(batch["patient_ids"] > 0, tf.float32)),
        "patients": tf.reduce_sum(batch["patient_weights"]),
    }


def _compiled(function: Callable, strategy: tf.distribute.Strategy, compiled: bool) -> Callable:
    """Return `function` as a replica calls it, see `compiled` of `build_train_step`."""
    if not compiled:
        return function
    if tf.config.list_logical_devices("GPU") or isinstance(strategy, tf.distribute.TPUStrategy):
        return tf.function(function, jit_compile=True)

    def chained(batch: BatchTensors) -> tuple:
        with fused_chains():
            return function(batch)

    return chained


def build_eval_step(
    strategy: tf.distribute.Strategy,
    model: PretrainingModel,
    layout: Layout,
    objectives: Objectives,
    compiled: bool = True,
) -> Callable[[BatchTensors], tuple[Sums, dict[str, Sums], dict[str, Sums]]]:
    """Build the function that evaluates one distributed batch.

    Args:
        strategy: Strategy under which the model was built.
        model: The model.
        layout: Shape of a replica's batch.
        objectives: Objectives to evaluate.
        compiled: As in `build_train_step`.

    Returns:
        A function that returns `real_tokens` and `patients` of the batch, the sums of each objective, and the
        rows of its `predictions`, of all replicas, with their `weights`.
    """

    def evaluate(batch: BatchTensors) -> tuple[Sums, dict[str, Sums], dict[str, Sums]]:
        hidden = model.encoder(batch, layout=layout)  # [P, H]
        sums: dict[str, Sums] = {}
        predictions: dict[str, Sums] = {}
        for name, objective in objectives.items():
            outputs = model.heads[name](hidden, batch, layout=layout)
            weights = batch[objective.weights]
            sums[name] = objective.evaluation_sums(model, outputs, batch) | {"count": tf.reduce_sum(weights)}
            if rows := objective.predictions(outputs, batch):
                predictions[name] = rows | {"weights": weights}
        return _batch_sums(batch), sums, predictions

    replica_step = _compiled(evaluate, strategy, compiled)

    @tf.function
    def eval_step(batch: BatchTensors) -> tuple[Sums, dict[str, Sums], dict[str, Sums]]:
        batch_sums, sums, predictions = strategy.run(replica_step, args=(batch,))

        def total(values: Sums) -> Sums:
            return {name: strategy.reduce("SUM", value, axis=None) for name, value in values.items()}

        def gathered(values: Sums) -> Sums:
            return {name: strategy.gather(value, axis=0) for name, value in values.items()}

        return (
            total(batch_sums),
            {name: total(values) for name, values in sums.items()},
            {name: gathered(values) for name, values in predictions.items()},
        )

    return eval_step
