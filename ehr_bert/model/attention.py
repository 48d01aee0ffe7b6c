"""Attention of each position to all positions of its patient."""

from typing import Any

import keras
from keras import ops

from ehr_bert.model.config import ModelConfig

MASKED_SCORE = -1e9
"""Added to the score of a position that must not be seen: its weight is exactly 0 in float32."""


class SelfAttention(keras.Layer):
    """Multi-head scaled dot-product attention (Vaswani et al. 2017, equation 1 and section 3.2.2)."""

    def __init__(self, config: ModelConfig, **kwargs: Any):
        super().__init__(**kwargs)
        self.heads = config.num_attention_heads
        self.head_width = config.hidden_size // config.num_attention_heads

        def projection(name: str) -> keras.layers.Dense:
            start = keras.initializers.TruncatedNormal(stddev=config.initializer_range)
            return keras.layers.Dense(config.hidden_size, kernel_initializer=start, name=name)

        self.query = projection("query")
        self.key = projection("key")
        self.value = projection("value")
        self.output_projection = projection("output")
        self.dropout = keras.layers.Dropout(config.attention_probs_dropout_prob)

    def call(self, hidden: Any, bias: Any, training: bool = False) -> Any:
        """Attends.

        Args:
            hidden: [B, T, H].
            bias: Added to the scores, broadcast to [B, N, T, T]: 0 or `MASKED_SCORE`.
            training: Whether weights are dropped.

        Returns:
            [B, T, H].
        """
        query = self._split(self.query(hidden)) * self.head_width**-0.5  # [B, N, T, D]
        key = self._split(self.key(hidden))  # [B, N, T, D]
        value = self._split(self.value(hidden))  # [B, N, T, D]
        scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) + bias  # [B, N, T, T]
        weights = self.dropout(ops.softmax(scores, axis=-1), training=training)
        seen = ops.transpose(ops.matmul(weights, value), (0, 2, 1, 3))  # [B, T, N, D]
        return self.output_projection(ops.reshape(seen, ops.shape(hidden)))

    def _split(self, hidden: Any) -> Any:
        batch, length, _ = ops.shape(hidden)
        split = ops.reshape(hidden, (batch, length, self.heads, self.head_width))
        return ops.transpose(split, (0, 2, 1, 3))  # [B, N, T, D]
