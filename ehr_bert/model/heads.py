"""What is asked of the encoder: the masked codes, and whether any stay was prolonged."""

from typing import Any

import keras
from keras import ops

from ehr_bert.model.config import ModelConfig
from ehr_bert.model.encoder import activation


class MaskedCodeHead(keras.Layer):
    """Scores all tokens at the masked positions alone, through the tied embedding and a bias of its own.

    Devlin et al. 2019, section 3.1, task 1.
    """

    def __init__(self, config: ModelConfig, **kwargs: Any):
        super().__init__(**kwargs)
        self.vocab_size = config.vocab_size
        self.transform = keras.layers.Dense(
            config.hidden_size,
            activation=activation(config.hidden_act),
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=config.initializer_range),
            name="transform",
        )
        self.norm = keras.layers.LayerNormalization(epsilon=config.layer_norm_eps, name="norm")

    def build(self, *_: Any) -> None:
        """Makes the output bias, [V]."""
        self.bias = self.add_weight(shape=(self.vocab_size,), initializer="zeros", name="bias")

    def call(self, hidden: Any, positions: Any, table: Any) -> Any:
        """Scores.

        Args:
            hidden: [B, T, H].
            positions: [B, P] integers below T.
            table: The token embeddings, [V, H].

        Returns:
            Logits, [B, P, V].
        """
        batch, length, width = ops.shape(hidden)
        flat = ops.reshape(positions + ops.arange(batch)[:, None] * length, (-1,))  # [B * P]
        masked = ops.take(ops.reshape(hidden, (-1, width)), flat, axis=0)  # [B * P, H]
        masked = self.norm(self.transform(masked))
        logits = ops.matmul(masked, ops.transpose(table)) + self.bias  # [B * P, V]
        return ops.reshape(logits, (batch, -1, self.vocab_size))


class StayHead(keras.Layer):
    """Scores a patient as with (1) or without (0) a prolonged stay.

    It stands where BERT had next-sentence prediction; `cls` and `first` go through BERT's pooler, `sum` and
    `mean` don't.
    """

    def __init__(self, config: ModelConfig, **kwargs: Any):
        super().__init__(**kwargs)
        self.pooling = config.stay_pooling

        def dense(width: int, name: str, **dense_kwargs: Any) -> keras.layers.Dense:
            start = keras.initializers.TruncatedNormal(stddev=config.initializer_range)
            return keras.layers.Dense(width, kernel_initializer=start, name=name, **dense_kwargs)

        self.pooler = dense(config.hidden_size, "pooler", activation="tanh")
        self.relationship = dense(2, "relationship")

    def build(self, hidden_shape: Any, *_: Any) -> None:
        """Makes the pooler whatever the pooling: a stock `BertModel` has one, used or not."""
        self.pooler.build((None, hidden_shape[-1]))

    def call(self, hidden: Any, visit_ids: Any, real: Any) -> Any:
        """Scores.

        Args:
            hidden: [B, T, H].
            visit_ids: [B, T], 0 at `[CLS]` and padding, from 1 on at codes.
            real: [B, T], 1 at real positions.

        Returns:
            Logits, [B, 2].
        """
        if self.pooling == "cls":
            pooled = self.pooler(hidden[:, 0])  # [B, H]
        elif self.pooling == "first":
            first = ops.argmax(ops.cast(visit_ids > 0, "int32"), axis=1)  # [B]
            pooled = self.pooler(ops.squeeze(ops.take_along_axis(hidden, first[:, None, None], axis=1), 1))
        else:
            weights = ops.cast(real, hidden.dtype)[:, :, None]  # [B, T, 1]
            pooled = ops.sum(hidden * weights, axis=1)  # [B, H]
            if self.pooling == "mean":
                pooled = pooled / ops.maximum(ops.sum(weights, axis=1), 1.0)
        return self.relationship(pooled)
