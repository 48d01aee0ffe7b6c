"""Attention weights of a model, by code and by visit.

Attention shows which tokens a layer combines, not what the prediction depends on. Contributions show the
latter.

Shapes: `A` attention heads, `T` tokens of the history, `C` codes, `K` visits that are read.
"""

import numpy as np
import torch

from ehr_bert.errors import UserError
from ehr_bert.prediction.batches import collate
from ehr_bert.prediction.encoders import BertEncoder, HistoryEncoder
from ehr_bert.prediction.reading import Encoded


@torch.no_grad()
def attention_weights(encoder: HistoryEncoder, encoded: Encoded) -> np.ndarray:
    """Return the attention weights by layer and head.

    Args:
        encoder: BERT with `eager` attention.
        encoded: One history of `T` tokens.

    Returns:
        float32 `[layers, A, T, T]`, from the token of the row to the token of the column. Rows sum to 1.

    Raises:
        UserError: The encoder does not return attention weights (key `no-attention-weights`).
    """
    if not isinstance(encoder, BertEncoder) or encoder.bert.config._attn_implementation != "eager":
        raise UserError(
            "no-attention-weights",
            "this encoder does not return attention weights. Load it with attention='eager'.",
        )
    batch = collate(encoded, np.zeros(1, np.int64)).to(encoder.token_embedding.weight.device)
    weights = encoder.bert(
        input_ids=batch.token_ids,
        token_type_ids=batch.visit_ids,
        attention_mask=batch.attention_mask,
        output_attentions=True,
    ).attentions
    return torch.cat(weights).cpu().numpy()


def attention_to_codes(weights: np.ndarray, is_code: np.ndarray, from_first: bool) -> np.ndarray:
    """Return the attention to each code from the tokens that the prediction head reads.

    Args:
        weights: `[layers, A, T, T]`.
        is_code: Whether each token is a code: bool `[T]`.
        from_first: Whether the head reads the first token only, instead of the mean of all tokens.

    Returns:
        `[layers, A, C]`.
    """
    to_tokens = weights[:, :, 0] if from_first else weights.mean(axis=2)  # [layers, A, T]
    return to_tokens[..., is_code]


def attention_by_visit(weights: np.ndarray, visits: np.ndarray) -> np.ndarray:
    """Return the mean attention from the tokens of each visit to the tokens of each visit.

    Args:
        weights: `[layers, A, T, T]`.
        visits: Visit of each token: int64 `[T]` with `K` distinct values.

    Returns:
        `[layers, A, K, K]`, from the visit of the row to the visit of the column. Rows sum to 1.
    """
    member = (visits[:, None] == np.unique(visits)).astype(weights.dtype)  # [T, K]
    return (member / member.sum(axis=0)).T @ weights @ member
