"""Attention of each position to all positions of its patient."""

from itertools import accumulate
from typing import Any

import keras
from keras import ops

from ehr_bert.examples.layout import Layout
from ehr_bert.model.config import ModelConfig
from ehr_bert.model.dropout import drop
from ehr_bert.model.fusing import fused

MASKED_SCORE = -1e9
"""Score of masked positions. Their weight is exactly 0 in float32."""


def same_patient_masks(patient_ids: Any, layout: Layout) -> list[Any]:
    """Return which positions of a window belong to the same patient, bool `[W, 1, T, T]` per window length.

    Args:
        patient_ids: int `[P]`, 0 at padding.
        layout: Windows of the batch.
    """
    same_patient = []
    for (count, length), part in zip(layout.windows, by_length(patient_ids, layout), strict=True):
        ids = ops.reshape(part, (count, 1, length))
        same_patient.append(ops.equal(ids[:, :, :, None], ids[:, :, None, :]))
    return same_patient


def by_length(values: Any, layout: Layout) -> list[Any]:
    """Split `values`, `[P, ...]`, by window length."""
    *borders, _ = accumulate(count * length for count, length in layout.windows)
    return ops.split(values, borders) if borders else [values]


class SelfAttention(keras.Layer):
    """Multi-head scaled dot-product attention (Vaswani et al. 2017, equation 1 and section 3.2.2)."""

    def __init__(self, config: ModelConfig, site: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.heads = config.num_attention_heads
        self.head_width = config.hidden_size // config.num_attention_heads
        self.dropout_rate = config.attention_probs_dropout_prob
        self.site = site

        def projection(name: str) -> keras.layers.Dense:
            initializer = keras.initializers.TruncatedNormal(stddev=config.initializer_range)
            return keras.layers.Dense(
                config.hidden_size, kernel_initializer=initializer, name=name, dtype=self.dtype_policy
            )

        self.query = projection("query")
        self.key = projection("key")
        self.value = projection("value")
        self.output_projection = projection("output")

    def build(self, hidden_shape: Any, *_: Any) -> None:
        """Create the weights. `call` uses those of the three inputs together."""
        for projection in (self.query, self.key, self.value, self.output_projection):
            projection.build(hidden_shape)

    def call(self, hidden: Any, same_patient: list[Any], keys: Any, layout: Layout, training: bool) -> Any:
        """Compute the attention output.

        Args:
            hidden: Hidden states, `[P, H]`.
            same_patient: Output of `same_patient_masks`.
            keys: Dropout keys, `[P]`.
            layout: Windows of the batch.
            training: Whether to use dropout.

        Returns:
            `[P, H]`.
        """
        inputs = (self.query, self.key, self.value)
        kernel = ops.concatenate([projection.kernel for projection in inputs], axis=1)  # [H, 3H]
        bias = ops.concatenate([projection.bias for projection in inputs], axis=0)  # [3H]
        projected = ops.matmul(hidden, ops.cast(kernel, hidden.dtype))  # [P, 3H]
        bias = ops.cast(bias, hidden.dtype)
        parts = zip(
            layout.windows, same_patient, by_length(projected, layout), by_length(keys, layout), strict=True
        )
        attended = [self._attend(*part, bias, training) for part in parts]
        return self.output_projection(ops.concatenate(attended, axis=0) if len(attended) > 1 else attended[0])

    def _attend(
        self, shape: tuple[int, int], same_patient: Any, projected: Any, keys: Any, bias: Any, training: bool
    ) -> Any:
        """Compute attention within the windows of one length, `[W * T, H]`."""
        query, key, value = fused(split_heads, projected, bias, shape=shape, heads=self.heads)  # [W, A, T, D]
        scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))  # [W, A, T, T]
        weights = fused(
            patient_softmax,
            scores,
            same_patient,
            keys,
            self.site,
            dropout=self.dropout_rate if training else 0.0,
        )
        return fused(merge_heads, ops.matmul(weights, value))


def split_heads(projected: Any, bias: Any, *, shape: tuple[int, int], heads: int) -> tuple[Any, Any, Any]:
    """Return scaled queries, keys and values `[W, A, T, D]` of a projection `[W * T, 3H]` without bias."""
    by_head = ops.reshape(projected + bias, (*shape, 3, heads, -1))
    query, key, value = ops.unstack(ops.transpose(by_head, (2, 0, 3, 1, 4)), 3)
    return query * query.shape[-1] ** -0.5, key, value


def patient_softmax(scores: Any, same_patient: Any, keys: Any, site: Any, *, dropout: float) -> Any:
    """Return the softmax over the positions of the same patient, with dropout, `[W, A, T, T]`.

    Args:
        scores: `[W, A, T, T]`.
        same_patient: Output of `same_patient_masks`, `[W, 1, T, T]`.
        keys: Dropout keys, `[W * T]`.
        site: Number of this dropout layer, see `dropout.drop`.
        dropout: Dropout rate.
    """
    weights = ops.softmax(ops.where(same_patient, ops.cast(scores, "float32"), MASKED_SCORE), axis=-1)
    count, _, length, _ = scores.shape
    by_query = ops.reshape(keys, (count, 1, length, 1))
    return ops.cast(drop(weights, dropout, by_query, site, stacked_axis=1), scores.dtype)


def merge_heads(attended: Any) -> Any:
    """Reshape `[W, A, T, D]` to `[W * T, H]`."""
    count, heads, length, width = attended.shape
    return ops.reshape(ops.transpose(attended, (0, 2, 1, 3)), (count * length, heads * width))
