"""The heads that every model has, as in `BertForPreTraining`: masked codes and prolonged stay."""

from typing import Any

import keras
from keras import ops

from ehr_bert.examples.layout import Layout
from ehr_bert.model.attention import by_length
from ehr_bert.model.config import ModelConfig
from ehr_bert.model.encoder import activation


class MaskedCodeHead(keras.Layer):
    """Scores all tokens at masked positions, with the tied embeddings and a separate bias.

    The scores are `transformed @ table.T + bias` (Devlin et al. 2019, section 3.1, task 1).
    """

    def __init__(self, config: ModelConfig, **kwargs: Any):
        super().__init__(**kwargs)
        self.vocab_size = config.vocab_size
        self.transform = keras.layers.Dense(
            config.hidden_size,
            activation=activation(config.hidden_act),
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=config.initializer_range),
            name="transform",
            dtype=self.dtype_policy,
        )
        self.norm = keras.layers.LayerNormalization(
            epsilon=config.layer_norm_eps, name="norm", dtype=self.dtype_policy
        )

    def build(self, *_: Any) -> None:
        """Create the output bias, `[V]`."""
        self.bias = self.add_weight(shape=(self.vocab_size,), initializer="zeros", name="bias")

    def call(self, hidden: Any, batch: dict[str, Any], layout: Layout) -> Any:
        """Return the vectors of the masked positions, before the product with the table.

        Args:
            hidden: Hidden states, `[P, H]`.
            batch: Contains `masked_places`, the masked positions, `[M]`.
            layout: Windows of the batch.

        Returns:
            `[M, H]`.
        """
        return self.norm(self.transform(ops.take(hidden, batch["masked_places"], axis=0)))


class StayHead(keras.Layer):
    """Scores patients with (1) and without (0) a prolonged stay.

    It replaces the next-sentence prediction of BERT. With the poolings `cls` and `first` it reads the output
    of BERT's pooler, with `sum` and `mean` the hidden states.
    """

    def __init__(self, config: ModelConfig, **kwargs: Any):
        super().__init__(**kwargs)
        self.pooling = config.stay_pooling

        def dense(width: int, name: str, **dense_kwargs: Any) -> keras.layers.Dense:
            initializer = keras.initializers.TruncatedNormal(stddev=config.initializer_range)
            return keras.layers.Dense(
                width, kernel_initializer=initializer, name=name, dtype=self.dtype_policy, **dense_kwargs
            )

        self.pooler = dense(config.hidden_size, "pooler", activation="tanh")
        self.relationship = dense(2, "relationship")

    def build(self, hidden_shape: Any, *_: Any) -> None:
        """Create the weights, with a pooler for every pooling, since a stock `BertModel` has one."""
        self.pooler.build((None, hidden_shape[-1]))
        self.relationship.build((None, hidden_shape[-1]))

    def call(self, hidden: Any, batch: dict[str, Any], layout: Layout) -> Any:
        """Compute the logits.

        Args:
            hidden: Hidden states, `[P, H]`.
            batch: Contains `patient_places`, the first position of each patient, `[S]`, and `visit_ids` and
                `patient_ids`, `[P]`.
            layout: Windows of the batch.

        Returns:
            Logits, `[S, 2]`.
        """
        places = batch["patient_places"]  # [S]
        if self.pooling == "cls":
            pooled = self.pooler(ops.take(hidden, places, axis=0))  # [S, H]
        elif self.pooling == "first":
            is_cls = ops.equal(ops.take(batch["visit_ids"], places, axis=0), 0)
            pooled = self.pooler(ops.take(hidden, places + ops.cast(is_cls, places.dtype), axis=0))
        else:
            by_position = [
                self._pooled(*part)
                for part in zip(
                    layout.windows,
                    by_length(hidden, layout),
                    by_length(batch["patient_ids"], layout),
                    strict=True,
                )
            ]
            pooled = ops.take(ops.concatenate(by_position, axis=0), places, axis=0)  # [S, H]
        return self.relationship(pooled)

    def _pooled(self, shape: tuple[int, int], hidden: Any, patient_ids: Any) -> Any:
        """Return the sum or mean over the patient of each position, `[W * T, H]`."""
        hidden = ops.reshape(hidden, (*shape, -1))  # [W, T, H]
        ids = ops.reshape(patient_ids, shape)  # [W, T]
        same_patient = ops.cast(ops.equal(ids[:, :, None], ids[:, None, :]), hidden.dtype)  # [W, T, T]
        if self.pooling == "mean":
            same_patient = same_patient / ops.sum(same_patient, axis=-1, keepdims=True)
        return ops.reshape(ops.matmul(same_patient, hidden), (shape[0] * shape[1], -1))
