"""The model that is pretrained: the encoder with both heads."""

from typing import Any

import keras

from ehr_bert.model.config import ModelConfig
from ehr_bert.model.encoder import Encoder
from ehr_bert.model.heads import MaskedCodeHead, StayHead


class PretrainingModel(keras.Model):
    """Computes what Hugging Face's `BertForPreTraining` computes, the codes at masked positions only."""

    def __init__(self, config: ModelConfig, **kwargs: Any):
        super().__init__(**kwargs)
        self.config = config
        self.encoder = Encoder(config, name="encoder")
        self.masked_codes = MaskedCodeHead(config, name="masked_codes")
        self.stay = StayHead(config, name="stay")

    def call(self, batch: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Scores a batch of examples.

        Args:
            batch: `input_ids`, `input_mask`, `segment_ids` [B, T], `masked_lm_positions` [B, P]; integers.
            training: Whether dropout is on.

        Returns:
            `masked_lm_logits` [B, P, V] and `stay_logits` [B, 2].
        """
        visit_ids, real = batch["segment_ids"], batch["input_mask"]
        hidden = self.encoder(batch["input_ids"], visit_ids, real, training=training)  # [B, T, H]
        table = self.encoder.embeddings.tokens.embeddings  # [V, H]
        return {
            "masked_lm_logits": self.masked_codes(hidden, batch["masked_lm_positions"], table),
            "stay_logits": self.stay(hidden, visit_ids, real),
        }


def build_model(config: ModelConfig, seed: int) -> PretrainingModel:
    """A model whose weights are made, as a function of `config` and `seed`."""
    if config.vocab_size is None:
        raise ValueError("the model config needs a vocab_size before a model is built")
    keras.utils.set_random_seed(seed)
    model = PretrainingModel(config, name="ehr_bert")
    ids = keras.ops.zeros((1, 2), dtype="int32")
    names = ("input_ids", "input_mask", "segment_ids", "masked_lm_positions")
    model(dict.fromkeys(names, ids))
    return model
