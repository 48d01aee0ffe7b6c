"""The operations of a training step in matrix products, and the speed of such products on this device.

Legend: H hidden size, I intermediate size, V vocabulary, T tokens of a window, A heads, D = H / A.

A multiplication and an addition count as two operations. The forward pass has the operations below. The
backward pass has two products for each one, so that training takes three times as many (Chowdhery et al.
2022, appendix B):

    per real token and block:    query, key, value, output   4 x [1, H] x [H, H]         8 H^2
                                 scores and values           2 x A x [1, D] x [D, T]     4 H T
                                 feed-forward                [1, H] x [H, I], [I, H]     4 H I
    per masked code:             transform                   [1, H] x [H, H]             2 H^2
                                 scores of all tokens        [1, H] x [H, V]             2 H V
    per patient, for the stay:   pooler and two scores       [1, H] x [H, H], [H, 2]     2 H^2 + 4 H

The heads are counted by the objectives. Padding, lookups, elementwise operations, the optimizer and
recomputed products are not counted.
"""

import statistics
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from ehr_bert.examples.layout import Layout
from ehr_bert.model.config import ModelConfig
from ehr_bert.objectives.objective import Objective

RUNS, SECONDS = 3, 0.5
"""Minimum number of runs, and minimum time in seconds, to measure a product."""

OPERATIONS_A_RUN, PRODUCTS_A_RUN = 2e10, 64
"""Products are chained in a run up to this number of operations or products, so that overhead is small."""


def training_flops(
    config: ModelConfig,
    layout: Layout,
    objectives: Iterable[Objective[Any]],
    sums: Mapping[str, float],
) -> float:
    """Return the floating-point operations of the matrix products of training, forward and backward.

    Args:
        config: Shape of the model.
        layout: Windows that contain the tokens. Window lengths are weighted by their positions.
        objectives: Objectives that are trained.
        sums: Sums of an update: `real_tokens`, and the number of predictions of each objective,
            `<prefix>_count`, 0 if it is missing.
    """
    hidden, inner = config.hidden_size, config.intermediate_size
    window = sum(count * length**2 for count, length in layout.windows) / layout.positions  # T
    token = config.num_hidden_layers * (8 * hidden**2 + 4 * hidden * window + 4 * hidden * inner)
    heads = sum(
        sums.get(f"{objective.prefix}_count", 0.0) * objective.flops(config) for objective in objectives
    )
    return 3 * (sums["real_tokens"] * token + heads)


@dataclass(frozen=True)
class ProductRate:
    """Speed of matrix products on a device.

    Attributes:
        flops_per_second: Floating-point operations per second.
        shape: `(m, k, n)` of the fastest product `[m, k] x [k, n]`.
        compiled: Whether XLA compiled it.
    """

    flops_per_second: float
    shape: tuple[int, int, int]
    compiled: bool


def product_shapes(config: ModelConfig, layout: Layout) -> list[tuple[int, int, int]]:
    """Return the shapes of the main products of a step: a projection of all positions and the scores."""
    hidden = config.hidden_size
    return [(layout.positions, hidden, hidden), (layout.masked, hidden, config.vocab_size or hidden)]


def measured_flops_per_second(precision: str, shapes: Iterable[tuple[int, int, int]]) -> ProductRate:
    """Measure the fastest product on this device, with and without XLA, as the median over runs.

    Args:
        precision: `float32` or `bfloat16`.
        shapes: Shapes of the products, as in `ProductRate`.
    """
    rates = [
        ProductRate(_rate(precision, shape, compiled), shape, compiled)
        for shape in dict.fromkeys(shapes)
        for compiled in (False, True)
    ]
    return max(rates, key=lambda rate: rate.flops_per_second)


def _rate(precision: str, shape: tuple[int, int, int], compiled: bool) -> float:
    rows, inner, columns = shape
    matrix = tf.cast(tf.random.normal((inner, columns), stddev=columns**-0.5), precision)
    values = tf.cast(tf.random.normal((rows, inner)), precision)
    operations = 4 * rows * inner * columns  # of a product and the product back to the first shape
    pairs = max(1, min(int(OPERATIONS_A_RUN / operations), PRODUCTS_A_RUN // 2))

    @tf.function(jit_compile=compiled)
    def chain(values: tf.Tensor) -> tf.Tensor:
        for _ in range(pairs):  # Each product depends on the previous one, so that none is optimised away.
            values = tf.matmul(tf.matmul(values, matrix), matrix, transpose_b=True)
        return tf.reduce_sum(values)

    chain(values).numpy()
    seconds: list[float] = []
    while len(seconds) < RUNS or sum(seconds) < SECONDS:
        start = time.perf_counter()
        chain(values).numpy()
        seconds.append(time.perf_counter() - start)
    return pairs * operations / statistics.median(seconds)
