"""Examples of patients who never lived, to compare models on where no real ones are at hand."""

import numpy as np

from ehr_bert.model.config import ModelConfig

PATIENTS, MASKED = 7, 5
NEW_VISIT = 0.3
"""Chance that a code begins a visit."""


def random_examples(
    config: ModelConfig, code_ids: np.ndarray, mask_id: int, cls_id: int | None, seed: int = 0
) -> dict[str, np.ndarray]:
    """A batch of patients of all lengths up to the model's window, with padding, visits and masks.

    Args:
        config: The model's shape.
        code_ids: Ids to draw codes from.
        mask_id: The id that stands for a masked code.
        cls_id: The id that stands before each patient, if one does.
        seed: Of the draw.

    Returns:
        `input_ids`, `input_mask`, `segment_ids` [B, T], `masked_lm_positions`, `masked_lm_weights` [B, P].
    """
    rng = np.random.default_rng(seed)
    shape = PATIENTS, config.max_position_embeddings
    before = int(cls_id is not None)
    lengths = rng.integers(before + 1, shape[1], PATIENTS, endpoint=True)
    place = np.arange(shape[1])
    real = place < lengths[:, None]  # [B, T]
    is_code = real & (place >= before)
    starts = (rng.random(shape) < NEW_VISIT) & (place > before)
    visits = np.minimum(1 + np.cumsum(starts, axis=1), config.type_vocab_size - 1)

    ids = np.where(is_code, rng.choice(code_ids, shape), config.pad_token_id)
    if cls_id is not None:
        ids[:, 0] = cls_id
    drawn = np.argsort(np.where(is_code, rng.random(shape), 2.0), axis=1)[:, :MASKED]  # codes come first
    weights = np.take_along_axis(is_code, drawn, axis=1)  # [B, P]
    rows, columns = np.nonzero(weights)
    ids[rows, drawn[rows, columns]] = mask_id
    return {
        "input_ids": ids.astype(np.int32),
        "input_mask": real.astype(np.int32),
        "segment_ids": np.where(is_code, visits, 0).astype(np.int32),
        "masked_lm_positions": np.where(weights, drawn, 0).astype(np.int32),
        "masked_lm_weights": weights.astype(np.float32),
    }
