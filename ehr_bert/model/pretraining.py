"""The model that is pretrained: the encoder with the heads of the objectives."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import keras
from keras import ops

from ehr_bert.examples.layout import Layout
from ehr_bert.model.config import ModelConfig
from ehr_bert.model.encoder import TransformerEncoder
from ehr_bert.model.heads import MaskedCodeHead, StayHead

BatchTensors = dict[str, Any]
"""Tensors of a batch by name, see `ehr_bert.examples.updates`."""

INPUTS = ("token_ids", "visit_ids", "position_ids", "patient_ids", "masked_places", "patient_places")
"""Tensors that every batch has, and that the encoder and the heads read."""


class HeadBuilder(Protocol):
    """Builds the head of an objective if stock BERT does not have it, see `ehr_bert.objectives`."""

    @property
    def head_inputs(self) -> tuple[str, ...]:
        """Tensors of a batch that the head reads, apart from `INPUTS`."""
        ...

    def head(self, config: ModelConfig, **layer_arguments: Any) -> keras.Layer:
        """Build the head."""
        ...


class PretrainingModel(keras.Model):
    """An encoder with the heads of the objectives.

    Like `BertForPreTraining` of Hugging Face, every model has the heads of masked codes and of the prolonged
    stay.

    Args:
        config: Shape of the model.
        additional_heads: Builders of additional heads, by objective.

    Attributes:
        config: Shape of the model.
        encoder: The encoder.
        masked_codes: Head of masked codes.
        stay: Head of the prolonged stay.
        heads: All heads, by objective.
    """

    def __init__(
        self,
        config: ModelConfig,
        additional_heads: Mapping[str, HeadBuilder] = MappingProxyType({}),
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.config = config
        self.encoder = TransformerEncoder(config, name="encoder", dtype=self.dtype_policy)
        self.masked_codes = MaskedCodeHead(config, name="masked_codes", dtype=self.dtype_policy)
        self.stay = StayHead(config, name="stay", dtype=self.dtype_policy)
        self.heads: dict[str, Any] = {"masked_codes": self.masked_codes, "prolonged_stay": self.stay} | {
            name: builder.head(config, name=name, dtype=self.dtype_policy)
            for name, builder in additional_heads.items()
        }

    def output_table(self) -> tuple[keras.Variable, keras.Variable]:
        """Return the token embeddings `[V, H]` and the output bias `[V]`, which give the scores of tokens."""
        return self.encoder.embeddings.tokens.embeddings, self.masked_codes.bias

    def call(self, batch: BatchTensors, layout: Layout, training: bool = False) -> dict[str, Any]:
        """Compute the outputs of all heads.

        Args:
            batch: Inputs of a batch. Labels and weights are not needed.
            layout: Static shape of the batch.
            training: Whether to use dropout.

        Returns:
            `masked_lm_logits` `[M, V]`, `stay_logits` `[S, 2]`, and the outputs of additional heads by
            objective.
        """
        hidden = self.encoder(batch, layout=layout, training=training)  # [P, H]
        vectors, stay_logits, *outputs = (head(hidden, batch, layout=layout) for head in self.heads.values())
        table, bias = self.output_table()
        logits = ops.matmul(vectors, ops.transpose(ops.cast(table, vectors.dtype)))  # [M, V]
        return {
            "masked_lm_logits": logits + ops.cast(bias, logits.dtype),
            "stay_logits": stay_logits,
            **dict(zip(list(self.heads)[2:], outputs, strict=True)),
        }


def build_model(
    config: ModelConfig,
    seed: int,
    precision: str = "float32",
    additional_heads: Mapping[str, HeadBuilder] = MappingProxyType({}),
) -> PretrainingModel:
    """Build a model and its weights, as a function of `config`, `seed` and the additional heads.

    Args:
        config: Shape of the model, with its `vocab_size`.
        seed: Seed of the weights.
        precision: `float32`, or `bfloat16` for the matrix products. Weights, softmax, layer normalisation and
            losses are in float32 in both cases.
        additional_heads: Builders of additional heads, by objective.
    """
    if config.vocab_size is None:
        raise ValueError("the config has no vocab_size. Set it before the model is built.")
    keras.utils.set_random_seed(seed)
    policy = "mixed_bfloat16" if precision == "bfloat16" else "float32"
    model = PretrainingModel(config, additional_heads, name="ehr_bert", dtype=policy)
    batch, layout = smallest_batch(additional_heads.values())
    model(batch, layout=layout)
    return model


def smallest_batch(builders: Iterable[HeadBuilder]) -> tuple[BatchTensors, Layout]:
    """Return a batch with one window of two positions, which builds the weights, and its layout."""
    names = (*INPUTS, *(name for builder in builders for name in builder.head_inputs))
    return dict.fromkeys(names, ops.zeros((2,), dtype="int32")), Layout(((1, 2),), 2, 2)
