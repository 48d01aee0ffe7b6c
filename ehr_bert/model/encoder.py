"""The encoder: embeddings, then blocks of attention and feed-forward parts."""

from typing import Any

import keras
from keras import ops

from ehr_bert.model.attention import MASKED_SCORE, SelfAttention
from ehr_bert.model.config import ModelConfig
from ehr_bert.model.embeddings import Embeddings


def activation(name: str) -> Any:
    """The function of one of `config.ACTIVATIONS`."""
    if name == "relu":
        return ops.relu
    return lambda x: ops.gelu(x, approximate=name == "gelu_new")


class EncoderBlock(keras.Layer):
    """Attention, then a feed-forward part, each added to its input and normalised after (post-norm)."""

    def __init__(self, config: ModelConfig, **kwargs: Any):
        super().__init__(**kwargs)

        def dense(width: int, name: str, **dense_kwargs: Any) -> keras.layers.Dense:
            start = keras.initializers.TruncatedNormal(stddev=config.initializer_range)
            return keras.layers.Dense(width, kernel_initializer=start, name=name, **dense_kwargs)

        def norm(name: str) -> keras.layers.LayerNormalization:
            return keras.layers.LayerNormalization(epsilon=config.layer_norm_eps, name=name)

        self.attention = SelfAttention(config, name="attention")
        self.attention_norm = norm("attention_norm")
        self.inner = dense(config.intermediate_size, "inner", activation=activation(config.hidden_act))
        self.outer = dense(config.hidden_size, "outer")
        self.outer_norm = norm("outer_norm")
        self.dropout = keras.layers.Dropout(config.hidden_dropout_prob)

    def call(self, hidden: Any, bias: Any, training: bool = False) -> Any:
        """Maps [B, T, H] to [B, T, H]; `bias` is as in `SelfAttention`."""
        attended = self.dropout(self.attention(hidden, bias, training=training), training=training)
        hidden = self.attention_norm(hidden + attended)
        fed = self.dropout(self.outer(self.inner(hidden)), training=training)  # inner: [B, T, I]
        return self.outer_norm(hidden + fed)


class Encoder(keras.Layer):
    """Embeddings and blocks: codes and visits in, a vector for each position out."""

    def __init__(self, config: ModelConfig, **kwargs: Any):
        super().__init__(**kwargs)
        self.embeddings = Embeddings(config, name="embeddings")
        self.blocks = [
            EncoderBlock(config, name=f"block_{index}") for index in range(config.num_hidden_layers)
        ]

    def call(self, token_ids: Any, visit_ids: Any, real: Any, training: bool = False) -> Any:
        """Encodes.

        Args:
            token_ids: [B, T] integers below V.
            visit_ids: [B, T] integers below the config's `type_vocab_size`.
            real: [B, T], 1 at real positions and 0 at padding, which no position attends to.
            training: Whether dropout is on.

        Returns:
            [B, T, H]; what stands at padding means nothing.
        """
        hidden = self.embeddings(token_ids, visit_ids, training=training)
        bias = (1.0 - ops.cast(real, hidden.dtype)) * MASKED_SCORE  # [B, T]
        bias = bias[:, None, None, :]  # [B, 1, 1, T]
        for block in self.blocks:
            hidden = block(hidden, bias, training=training)
        return hidden
