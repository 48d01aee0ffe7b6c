"""A small model and odd batches, so that a transposed axis can't hide."""

from typing import Any

import numpy as np

from ehr_bert.model.config import ModelConfig

BATCH, LENGTH, MASKED, VOCABULARY = 13, 7, 3, 29

SMALL = ModelConfig(
    vocab_size=VOCABULARY,
    hidden_size=12,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=5,
    max_position_embeddings=11,
    type_vocab_size=6,
)


def random_batch(seed: int = 0) -> dict[str, np.ndarray]:
    """Examples of 3 to 7 tokens: `[CLS]` (2), then codes in visits, then padding."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, LENGTH + 1, BATCH)
    real = np.arange(LENGTH) < lengths[:, None]
    ids = np.where(real, rng.integers(5, VOCABULARY, (BATCH, LENGTH)), 0)
    ids[:, 0] = 2
    visits = np.where(real, np.sort(rng.integers(1, 6, (BATCH, LENGTH)), axis=1), 0)
    visits[:, 0] = 0
    weights = (np.arange(MASKED) < rng.integers(1, MASKED + 1, BATCH)[:, None]).astype("float32")
    batch: dict[str, Any] = {
        "input_ids": ids,
        "input_mask": real,
        "segment_ids": visits,
        "masked_lm_positions": np.where(weights, rng.integers(1, lengths[:, None], (BATCH, MASKED)), 0),
        "masked_lm_ids": np.where(weights, rng.integers(5, VOCABULARY, (BATCH, MASKED)), 0),
        "next_sentence_labels": rng.integers(0, 2, BATCH),
    }
    return {
        **{name: values.astype("int32") for name, values in batch.items()},
        "masked_lm_weights": weights,
        "example_weight": np.ones(BATCH, "float32"),
    }
