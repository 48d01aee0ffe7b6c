"""Work of a training step in matrix products, and how fast this device makes such products.

Legend: H hidden width, I inner width, L blocks, V vocabulary, T positions of a window, A heads, D = H / A.

Counted is what the model asks for, a multiplication and an addition as two, forward; the backward pass makes
two products for each one, so that training is three times this (Chowdhery et al. 2022, appendix B):

    a real token, a block:   query, key, value and output   4 x [1, H] x [H, H]         8 H^2
                             scores, and values             2 x A x [1, D] x [D, T]     4 H T
                             feed-forward                   [1, H] x [H, I] and back    4 H I
    a masked code:           transform                      [1, H] x [H, H]             2 H^2
                             scores of all codes            [1, H] x [H, V]             2 H V
    a patient:               pooler, and two scores         [1, H] x [H, H], [H, 2]     2 H^2 + 4 H

Padding counts nothing, nor do lookups, elementwise chains, the optimizer, or products made a second time.
"""

import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass

import tensorflow as tf

from ehr_bert.examples.layout import Layout
from ehr_bert.model.config import ModelConfig

RUNS, SECONDS = 3, 0.5
"""A product is measured so often at least, and so long at least."""

OPERATIONS_A_RUN, PRODUCTS_A_RUN = 2e10, 64
"""Products are chained in a run until it has so many operations, so that its start doesn't count."""


def training_flops(
    config: ModelConfig, layout: Layout, real_tokens: float, masked_codes: float, patients: float
) -> float:
    """Floating-point operations of the products that train on so much, forward and backward.

    Args:
        config: The model's shape.
        layout: Windows that the tokens are in; of several lengths each counts by its positions.
        real_tokens: Tokens that are no padding.
        masked_codes: Codes that are predicted.
        patients: Patients whose stay is predicted.
    """
    hidden, inner, vocabulary = config.hidden_size, config.intermediate_size, config.vocab_size or 0
    window = sum(count * length**2 for count, length in layout.windows) / layout.positions  # T
    token = config.num_hidden_layers * (8 * hidden**2 + 4 * hidden * window + 4 * hidden * inner)
    masked_code = 2 * hidden**2 + 2 * hidden * vocabulary
    patient = 2 * hidden**2 + 4 * hidden
    return 3 * (real_tokens * token + masked_codes * masked_code + patients * patient)


@dataclass(frozen=True)
class ProductRate:
    """How fast a device makes matrix products.

    Attributes:
        flops_per_second: Floating-point operations.
        shape: (m, k, n) of the product [m, k] x [k, n] that was fastest.
        compiled: Whether it was compiled by XLA.
    """

    flops_per_second: float
    shape: tuple[int, int, int]
    compiled: bool


def product_shapes(config: ModelConfig, layout: Layout) -> list[tuple[int, int, int]]:
    """Shapes of a step's main products: a projection of all positions, and the scores of masked codes."""
    hidden = config.hidden_size
    return [(layout.positions, hidden, hidden), (layout.masked, hidden, config.vocab_size or hidden)]


def measured_flops_per_second(precision: str, shapes: Iterable[tuple[int, int, int]]) -> ProductRate:
    """The fastest of the products on this device, each made plainly and compiled; the median of some runs.

    Args:
        precision: "float32" or "bfloat16".
        shapes: Of the products, as in `ProductRate`.
    """
    rates = [
        ProductRate(_rate(precision, shape, compiled), shape, compiled)
        for shape in dict.fromkeys(shapes)
        for compiled in (False, True)
    ]
    return max(rates, key=lambda rate: rate.flops_per_second)


def _rate(precision: str, shape: tuple[int, int, int], compiled: bool) -> float:
    rows, inner, columns = shape
    there = tf.cast(tf.random.normal((inner, columns), stddev=columns**-0.5), precision)
    values = tf.cast(tf.random.normal((rows, inner)), precision)
    operations = 4 * rows * inner * columns  # there and back
    pairs = max(1, min(int(OPERATIONS_A_RUN / operations), PRODUCTS_A_RUN // 2))

    @tf.function(jit_compile=compiled)
    def chain(values: tf.Tensor) -> tf.Tensor:
        for _ in range(pairs):  # each needs the one before, so that none is left out
            values = tf.matmul(tf.matmul(values, there), there, transpose_b=True)
        return tf.reduce_sum(values)

    chain(values).numpy()
    seconds: list[float] = []
    while len(seconds) < RUNS or sum(seconds) < SECONDS:
        start = time.perf_counter()
        chain(values).numpy()
        seconds.append(time.perf_counter() - start)
    return pairs * operations / statistics.median(seconds)
