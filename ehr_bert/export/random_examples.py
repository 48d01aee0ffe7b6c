"""Examples of patients who never lived, to compare models on where no real ones are at hand."""

import numpy as np

from ehr_bert.examples.layout import Layout
from ehr_bert.model.config import ModelConfig
from ehr_bert.model.pretraining import BatchTensors

PATIENTS, MASKED = 7, 5
NEW_VISIT = 0.3
"""Chance that a code begins a visit."""


def random_examples(
    config: ModelConfig, code_ids: np.ndarray, mask_id: int, cls_id: int | None, seed: int = 0
) -> tuple[BatchTensors, Layout]:
    """A batch of patients of all lengths up to the model's window, with padding, visits and masks.

    Args:
        config: The model's shape.
        code_ids: Ids to draw codes from.
        mask_id: The id that stands for a masked code.
        cls_id: The id that stands before each patient, if one does.
        seed: Of the draw.

    Returns:
        A batch of the model, a patient a window, and its layout.
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
    first = shape[1] * np.arange(PATIENTS)  # [B]
    batch = {
        "token_ids": ids,
        "visit_ids": np.where(is_code, visits, 0),
        "position_ids": np.where(real, place, 0),
        "patient_ids": real,
        "masked_places": np.where(weights, drawn + first[:, None], 0),
        "masked_weights": weights,
        "patient_places": first,
        "patient_weights": np.ones(PATIENTS),
    }
    flat = {
        name: np.reshape(values, -1).astype(np.float32 if name.endswith("_weights") else np.int32)
        for name, values in batch.items()
    }
    return flat, Layout(windows=(shape,), masked=weights.size, patients=PATIENTS)
