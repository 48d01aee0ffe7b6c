"""Input of the encoder: the sum of token, position and visit embeddings."""

from typing import Any

import keras

from ehr_bert.model.config import ModelConfig
from ehr_bert.model.dropout import drop


class Embeddings(keras.Layer):
    """Sum of token, position and visit embeddings, normalised (Devlin et al. 2019, figure 2)."""

    def __init__(self, config: ModelConfig, site: int, **kwargs: Any):
        super().__init__(**kwargs)

        def table(rows: int | None, name: str) -> keras.layers.Embedding:
            initializer = keras.initializers.TruncatedNormal(stddev=config.initializer_range)
            return keras.layers.Embedding(
                rows,
                config.hidden_size,
                embeddings_initializer=initializer,
                name=name,
                dtype=self.dtype_policy,
            )

        self.tokens = table(config.vocab_size, "tokens")  # [V, H]
        self.positions = table(config.max_position_embeddings, "positions")
        self.visits = table(config.type_vocab_size, "visits")
        self.norm = keras.layers.LayerNormalization(
            epsilon=config.layer_norm_eps, name="norm", dtype=self.dtype_policy
        )
        self.dropout_rate = config.hidden_dropout_prob
        self.site = site

    def call(self, token_ids: Any, visit_ids: Any, position_ids: Any, keys: Any, training: bool) -> Any:
        """Embed ids, `[P]` each, as `[P, H]`. `keys` are the dropout keys, `[P]`."""
        summed = self.tokens(token_ids) + self.visits(visit_ids) + self.positions(position_ids)
        normed = self.norm(summed)  # [P, H]
        return drop(normed, self.dropout_rate, keys[:, None], self.site) if training else normed
