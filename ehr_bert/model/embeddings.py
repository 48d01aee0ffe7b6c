"""What enters the encoder: the sum of a code's, its position's and its visit's embedding."""

from typing import Any

import keras
from keras import ops

from ehr_bert.model.config import ModelConfig


class Embeddings(keras.Layer):
    """Sum of token, position and visit embeddings, normalised (Devlin et al. 2019, figure 2)."""

    def __init__(self, config: ModelConfig, **kwargs: Any):
        super().__init__(**kwargs)

        def table(rows: int | None, name: str) -> keras.layers.Embedding:
            start = keras.initializers.TruncatedNormal(stddev=config.initializer_range)
            return keras.layers.Embedding(rows, config.hidden_size, embeddings_initializer=start, name=name)

        self.tokens = table(config.vocab_size, "tokens")  # [V, H]
        self.positions = table(config.max_position_embeddings, "positions")
        self.visits = table(config.type_vocab_size, "visits")
        self.norm = keras.layers.LayerNormalization(epsilon=config.layer_norm_eps, name="norm")
        self.dropout = keras.layers.Dropout(config.hidden_dropout_prob)

    def call(self, token_ids: Any, visit_ids: Any, training: bool = False) -> Any:
        """Embeds `token_ids` and `visit_ids`, both [B, T] integers, as [B, T, H]."""
        positions = ops.arange(ops.shape(token_ids)[1])  # [T]
        summed = self.tokens(token_ids) + self.visits(visit_ids) + self.positions(positions)
        return self.dropout(self.norm(summed), training=training)  # [B, T, H]
