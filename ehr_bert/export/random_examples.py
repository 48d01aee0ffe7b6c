"""Random examples, on which two models are compared even if no real examples are available."""

import numpy as np

from ehr_bert.examples.layout import Layout
from ehr_bert.model.config import ModelConfig
from ehr_bert.model.pretraining import BatchTensors

RANDOM_PATIENTS, RANDOM_MASKS = 7, 5
"""Number of random patients, and of masked codes of each."""

NEW_VISIT = 0.3
"""Probability that a code starts a visit."""


def random_examples(
    config: ModelConfig, code_ids: np.ndarray, mask_id: int, cls_id: int | None, seed: int = 0
) -> tuple[BatchTensors, Layout]:
    """Return a batch of patients of all lengths up to the model's window, with padding, visits and masks.

    Args:
        config: The model's shape.
        code_ids: Ids from which codes are drawn, int `[U]`.
        mask_id: Id of the token that replaces masked codes.
        cls_id: Id of the token before each patient, None if there is none.
        seed: Seed of the random generator.

    Returns:
        A batch of the model with one patient per window, and its layout.
    """
    rng = np.random.default_rng(seed)
    shape = RANDOM_PATIENTS, config.max_position_embeddings  # W, T
    first_code = int(cls_id is not None)
    lengths = rng.integers(first_code + 1, shape[1], RANDOM_PATIENTS, endpoint=True)
    position = np.arange(shape[1])  # [T]
    real = position < lengths[:, None]  # [W, T]
    is_code = real & (position >= first_code)
    starts = (rng.random(shape) < NEW_VISIT) & (position > first_code)
    visits = np.minimum(1 + np.cumsum(starts, axis=1), config.type_vocab_size - 1)

    ids = np.where(is_code, rng.choice(code_ids, shape), config.pad_token_id)
    if cls_id is not None:
        ids[:, 0] = cls_id
    order = np.argsort(np.where(is_code, rng.random(shape), 2.0), axis=1)  # codes first, in random order
    drawn = order[:, :RANDOM_MASKS]  # [W, X]
    weights = np.take_along_axis(is_code, drawn, axis=1)  # [W, X]
    rows, columns = np.nonzero(weights)
    ids[rows, drawn[rows, columns]] = mask_id
    first = shape[1] * np.arange(RANDOM_PATIENTS)  # [W]
    batch = {
        "token_ids": ids,
        "visit_ids": np.where(is_code, visits, 0),
        "position_ids": np.where(real, position, 0),
        "patient_ids": real,
        "masked_places": np.where(weights, drawn + first[:, None], 0),
        "masked_weights": weights,
        "patient_places": first,
        "patient_weights": np.ones(RANDOM_PATIENTS),
    }
    flat = {
        name: np.reshape(values, -1).astype(np.float32 if name.endswith("_weights") else np.int32)
        for name, values in batch.items()
    }
    return flat, Layout(windows=(shape,), masked=weights.size, patients=RANDOM_PATIENTS)
