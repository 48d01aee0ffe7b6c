"""The encoder: embeddings, then blocks of attention and feed-forward networks."""

from typing import Any

import keras
from keras import ops

from ehr_bert.examples.layout import Layout
from ehr_bert.model.attention import SelfAttention, same_patient_masks
from ehr_bert.model.config import ModelConfig
from ehr_bert.model.dropout import drop
from ehr_bert.model.embeddings import Embeddings
from ehr_bert.model.fusing import fused

DROPOUTS_PER_BLOCK = 3
"""Number of dropout layers per block."""


def activation(name: str) -> Any:
    """Return the function of one of `config.ACTIVATIONS`."""
    if name == "relu":
        return ops.relu
    return lambda x: ops.gelu(x, approximate=name == "gelu_new")


class EncoderBlock(keras.Layer):
    """Attention and a feed-forward network, each with a residual connection and post-normalisation."""

    def __init__(self, config: ModelConfig, site: int, **kwargs: Any):
        super().__init__(**kwargs)

        def dense(width: int, name: str, **dense_kwargs: Any) -> keras.layers.Dense:
            initializer = keras.initializers.TruncatedNormal(stddev=config.initializer_range)
            return keras.layers.Dense(
                width, kernel_initializer=initializer, name=name, dtype=self.dtype_policy, **dense_kwargs
            )

        def norm(name: str) -> keras.layers.LayerNormalization:
            return keras.layers.LayerNormalization(
                epsilon=config.layer_norm_eps, name=name, dtype=self.dtype_policy
            )

        self.attention = SelfAttention(config, site, name="attention", dtype=self.dtype_policy)
        self.attention_norm = norm("attention_norm")
        self.inner = dense(config.intermediate_size, "inner", activation=activation(config.hidden_act))
        self.outer = dense(config.hidden_size, "outer")
        self.outer_norm = norm("outer_norm")
        self.dropout_rate = config.hidden_dropout_prob
        self.site = site

    def build(self, hidden_shape: Any, *_: Any) -> None:
        """Create the weights that `call` uses directly."""
        for norm in (self.attention_norm, self.outer_norm):
            norm.build(hidden_shape)

    def call(self, hidden: Any, same_patient: list[Any], keys: Any, layout: Layout, training: bool) -> Any:
        """Map `[P, H]` to `[P, H]`. The arguments are those of `SelfAttention.call`."""

        def added(norm: keras.layers.Layer, number: int, update: Any) -> Any:
            return fused(
                add_and_norm,
                *(hidden, update, keys, self.site + number, norm.gamma, norm.beta),
                dropout=self.dropout_rate if training else 0.0,
                epsilon=norm.epsilon,
            )

        attended = self.attention(hidden, same_patient, keys, layout=layout, training=training)
        hidden = added(self.attention_norm, 1, attended)
        return added(self.outer_norm, 2, self.outer(self.inner(hidden)))  # inner: [P, I]


def add_and_norm(
    hidden: Any, update: Any, keys: Any, site: Any, gamma: Any, beta: Any, *, dropout: float, epsilon: float
) -> Any:
    """Add `update`, with dropout, to `hidden`, and normalise in float32 (Ba et al. 2016): `[P, H]`."""
    update = drop(update, dropout, keys[:, None], site)
    summed = ops.cast(hidden, "float32") + ops.cast(update, "float32")
    mean, variance = ops.moments(summed, axes=[-1], keepdims=True)
    normed = (summed - mean) * ops.rsqrt(variance + epsilon)
    return ops.cast(normed * ops.cast(gamma, "float32") + ops.cast(beta, "float32"), hidden.dtype)


class TransformerEncoder(keras.Layer):
    """Embeddings and blocks, which map tokens and visits to a vector per position."""

    def __init__(self, config: ModelConfig, **kwargs: Any):
        super().__init__(**kwargs)
        self.embeddings = Embeddings(config, site=0, name="embeddings", dtype=self.dtype_policy)
        self.blocks = [
            EncoderBlock(
                config, site=1 + DROPOUTS_PER_BLOCK * index, name=f"block_{index}", dtype=self.dtype_policy
            )
            for index in range(config.num_hidden_layers)
        ]

    def call(self, batch: dict[str, Any], layout: Layout, training: bool = False) -> Any:
        """Compute the hidden states.

        Args:
            batch: `token_ids`, `visit_ids`, `position_ids` and `patient_ids`, and in training `dropout_keys`:
                int `[P]`.
            layout: Windows of the batch.
            training: Whether to use dropout.

        Returns:
            `[P, H]`. Values at padding have no meaning.
        """
        keys = batch["dropout_keys"] if training else batch["patient_ids"]  # [P]
        hidden = self.embeddings(
            batch["token_ids"], batch["visit_ids"], batch["position_ids"], keys, training=training
        )  # [P, H]
        same_patient = same_patient_masks(batch["patient_ids"], layout)
        for block in self.blocks:
            hidden = block(hidden, same_patient, keys, layout=layout, training=training)
        return hidden
