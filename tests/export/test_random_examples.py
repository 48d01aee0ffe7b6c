import dataclasses

import numpy as np
import pytest

from ehr_bert.export.random_examples import random_examples
from tests.export.small import CLS_ID, MASK_ID, VOCABULARY
from tests.model.small import SMALL


@pytest.mark.parametrize("cls_id", [None, CLS_ID])
@pytest.mark.parametrize("mask_id", [0, MASK_ID])
def test_random_examples_have_the_form_of_training_examples(cls_id, mask_id):
    config = dataclasses.replace(SMALL, max_position_embeddings=23)
    batch, layout = random_examples(config, VOCABULARY.code_ids, mask_id, cls_id)
    (shape,) = layout.windows
    ids, real, visits = (np.reshape(batch[name], shape) for name in ("token_ids", "patient_ids", "visit_ids"))
    masked = np.reshape(batch["masked_weights"] > 0, (shape[0], -1))
    first = 0 if cls_id is None else 1
    assert shape[1] == 23
    assert (np.diff(real, axis=1) <= 0).all()
    assert 0 < real.mean() < 1
    assert not ids[real == 0].any()
    assert not visits[real == 0].any()
    if cls_id is not None:
        assert (ids[:, 0] == cls_id).all()
        assert not visits[:, 0].any()
    assert (visits[:, first] == 1).all()
    codes = (real > 0) & (np.arange(23) >= first)
    assert np.isin(ids[codes], [mask_id, *VOCABULARY.code_ids]).all()
    assert visits[codes].min() == 1
    assert visits.max() == config.type_vocab_size - 1
    is_mask = codes & (ids == mask_id)
    expected = np.zeros(is_mask.size, bool)
    expected[batch["masked_places"][masked.ravel()]] = True
    np.testing.assert_array_equal(is_mask.ravel(), expected)
    np.testing.assert_array_equal(batch["patient_places"], 23 * np.arange(shape[0]))
    assert (masked.sum(axis=1) >= 1).all()


def test_the_same_seed_gives_the_same_examples():
    one, same, other = (
        random_examples(SMALL, VOCABULARY.code_ids, MASK_ID, CLS_ID, seed)[0]["token_ids"]
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
