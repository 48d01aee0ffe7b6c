"""The model that is pretrained: the encoder with both heads."""

from typing import Any

import keras
from keras import ops

from ehr_bert.examples.layout import Layout
from ehr_bert.model.config import ModelConfig
from ehr_bert.model.encoder import TransformerEncoder
from ehr_bert.model.heads import MaskedCodeHead, StayHead

BatchTensors = dict[str, Any]
"""Tensors of a batch, int32 but for the weights (`docs/formats.md` tells what each holds):

token_ids, visit_ids, position_ids, patient_ids, dropout_keys     [N]
masked_places, masked_ids, masked_weights                         [M]
patient_places, stay_labels, stay_weights                         [S]
masked_total, patients_total                                      []
"""


class PretrainingModel(keras.Model):
    """Computes what Hugging Face's `BertForPreTraining` computes, the codes at masked positions only."""

    def __init__(self, config: ModelConfig, **kwargs: Any):
        super().__init__(**kwargs)
        self.config = config
        self.encoder = TransformerEncoder(config, name="encoder", dtype=self.dtype_policy)
        self.masked_codes = MaskedCodeHead(config, name="masked_codes", dtype=self.dtype_policy)
        self.stay = StayHead(config, name="stay", dtype=self.dtype_policy)

    def vectors(self, batch: BatchTensors, layout: Layout, training: bool = False) -> tuple[Any, Any]:
        """What comes before the product with the vocabulary.

        Args:
            batch: As `call` takes it.
            layout: The batch's static shape.
            training: Whether dropout is on.

        Returns:
            Vectors of the masked positions, [M, H], and the stay's logits, [S, 2].
        """
        hidden = self.encoder(batch, layout=layout, training=training)  # [N, H]
        return self.masked_codes(hidden, batch["masked_places"]), self.stay(hidden, batch, layout=layout)

    def output_table(self) -> tuple[Any, Any]:
        """The token embeddings [V, H] and the bias [V] that make a masked position's vector its scores."""
        return self.encoder.embeddings.tokens.embeddings, self.masked_codes.bias

    def call(self, batch: BatchTensors, layout: Layout, training: bool = False) -> dict[str, Any]:
        """Scores a batch.

        Args:
            batch: Its inputs, without labels and weights.
            layout: The batch's static shape.
            training: Whether dropout is on.

        Returns:
            `masked_lm_logits` [M, V] and `stay_logits` [S, 2].
        """
        masked, stay_logits = self.vectors(batch, layout, training)
        table, bias = self.output_table()
        logits = ops.matmul(masked, ops.transpose(ops.cast(table, masked.dtype)))  # [M, V]
        return {"masked_lm_logits": logits + ops.cast(bias, logits.dtype), "stay_logits": stay_logits}


def build_model(config: ModelConfig, seed: int, precision: str = "float32") -> PretrainingModel:
    """A model whose weights are made, as a function of `config` and `seed`.

    Args:
        config: Its shape.
        seed: Of its weights.
        precision: "float32", or "bfloat16": then products are made in it, while weights, softmax, layer
            normalisation and losses stay in float32.
    """
    if config.vocab_size is None:
        raise ValueError("the model config needs a vocab_size before a model is built")
    keras.utils.set_random_seed(seed)
    policy = "mixed_bfloat16" if precision == "bfloat16" else "float32"
    model = PretrainingModel(config, name="ehr_bert", dtype=policy)
    one = ops.zeros((2,), dtype="int32")
    names = ("token_ids", "visit_ids", "position_ids", "patient_ids", "masked_places", "patient_places")
    model(dict.fromkeys(names, one), layout=Layout(((1, 2),), 2, 2))
    return model
