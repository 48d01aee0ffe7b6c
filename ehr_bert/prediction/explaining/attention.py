"""Where a model's heads look.

Attention tells what a layer mixes, not what the prediction rests on: that is what contributions are for.

L: layers, A: attention heads, T: tokens, C: codes, V: visits that are read.
"""

import numpy as np
import torch

from ehr_bert.errors import UserError
from ehr_bert.prediction.batches import collate
from ehr_bert.prediction.encoders import BertEncoder, HistoryEncoder
from ehr_bert.prediction.reading import Encoded


@torch.no_grad()
def attention_weights(encoder: HistoryEncoder, encoded: Encoded) -> np.ndarray:
    """How much of each token every token takes in, by layer and head.

    Args:
        encoder: BERT with `eager` attention.
        encoded: One history of `T` tokens.

    Returns:
        float32 `[L, A, T, T]`: from the token of the row to that of the column; rows add up to 1.

    Raises:
        UserError: the encoder has no attention, or not the one that can tell its weights.
    """
    if not isinstance(encoder, BertEncoder) or encoder.bert.config._attn_implementation != "eager":
        raise UserError("this encoder can't tell its attention: load it with attention='eager'")
    batch = collate(encoded, np.zeros(1, np.int64)).to(encoder.token_embedding.weight.device)
    weights = encoder.bert(
        input_ids=batch.token_ids,
        token_type_ids=batch.visit_ids,
        attention_mask=batch.attention_mask,
        output_attentions=True,
    ).attentions
    return torch.cat(weights).cpu().numpy()


def attention_to_codes(weights: np.ndarray, is_code: np.ndarray, from_first: bool) -> np.ndarray:
    """How much of each code is taken in where the predictor's head reads.

    Args:
        weights: `[L, A, T, T]`.
        is_code: Which tokens are codes: bool `[T]`.
        from_first: Whether the head reads the first token, or else all of them alike.

    Returns:
        `[L, A, C]`.
    """
    read = weights[:, :, 0] if from_first else weights.mean(axis=2)  # [L, A, T]
    return read[..., is_code]


def attention_by_visit(weights: np.ndarray, visits: np.ndarray) -> np.ndarray:
    """How much of each visit a visit's tokens take in, on average.

    Args:
        weights: `[L, A, T, T]`.
        visits: The visit of each token, `V` distinct ones: int64 `[T]`.

    Returns:
        `[L, A, V, V]`: from the visit of the row to that of the column; rows add up to 1.
    """
    member = (visits[:, None] == np.unique(visits)).astype(weights.dtype)  # [T, V]
    return (member / member.sum(axis=0)).T @ weights @ member
