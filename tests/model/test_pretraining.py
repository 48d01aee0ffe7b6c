import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from ehr_bert.model.config import STAY_POOLINGS
from ehr_bert.model.pretraining import build_model
from tests.model.small import BATCH, MASKED, SMALL, VOCABULARY, random_batch


def outputs(config, batch, seed=3):
    return {name: value.numpy() for name, value in build_model(config, seed)(batch).items()}


def test_scores_have_the_shapes_of_masked_places_and_patients():
    found = outputs(SMALL, random_batch())
    assert found["masked_lm_logits"].shape == (BATCH, MASKED, VOCABULARY)
    assert found["stay_logits"].shape == (BATCH, 2)


def test_the_same_seed_gives_the_same_model_and_another_seed_another():
    batch = random_batch()
    one, same, other = (outputs(SMALL, batch, seed)["stay_logits"] for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-4


@pytest.mark.parametrize("pooling", STAY_POOLINGS)
def test_padding_changes_nothing(pooling):
    config = dataclasses.replace(SMALL, stay_pooling=pooling)
    batch = random_batch()
    longer = dict(batch)
    for name in ("input_ids", "input_mask", "segment_ids"):
        longer[name] = np.pad(batch[name], ((0, 0), (0, 4)))
    longer["input_ids"] = np.where(longer["input_mask"] == 0, 9, longer["input_ids"])
    expected, found = outputs(config, batch), outputs(config, longer)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-6)


def test_a_visit_and_a_position_matter():
    batch = random_batch()
    expected = outputs(SMALL, batch)["masked_lm_logits"]
    for name, values in (
        ("segment_ids", np.where(batch["segment_ids"] == 2, 3, batch["segment_ids"])),
        ("input_ids", batch["input_ids"][:, [0, 2, 1, 3, 4, 5, 6]]),
    ):
        found = outputs(SMALL, {**batch, name: values})["masked_lm_logits"]
        assert np.abs(found - expected).max() > 1e-4


def test_first_pooling_reads_the_first_code_whether_or_not_there_is_a_cls():
    batch = random_batch()
    first = build_model(dataclasses.replace(SMALL, stay_pooling="first"), 3)
    hidden = first.encoder(batch["input_ids"], batch["segment_ids"], batch["input_mask"])
    expected = first.stay.relationship(first.stay.pooler(hidden[:, 1]))
    np.testing.assert_allclose(first(batch)["stay_logits"], expected, atol=1e-6)
    without = {
        **batch,
        **{name: batch[name][:, 1:] for name in ("input_ids", "segment_ids", "input_mask")},
        "masked_lm_positions": np.maximum(batch["masked_lm_positions"] - 1, 0),
    }
    cls = build_model(SMALL, 3)
    np.testing.assert_allclose(first(without)["stay_logits"], cls(without)["stay_logits"], atol=1e-6)


FORWARD = """
import json, sys
import numpy as np, keras
from ehr_bert.model.pretraining import build_model
from tests.model.small import SMALL, random_batch
model = build_model(SMALL, 3)
rng = np.random.default_rng(5)
for variable in model.trainable_variables:
    variable.assign(rng.normal(0, 0.3, variable.shape))
scores = model(random_batch())
print(json.dumps({name: keras.ops.convert_to_numpy(value).tolist() for name, value in scores.items()}))
"""


def forward_under(backend):
    environment = os.environ | {"KERAS_BACKEND": backend}
    done = subprocess.run(
        [sys.executable, "-c", FORWARD], env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_the_model_computes_the_same_under_other_keras_backends(backend):
    if backend == "jax":
        pytest.importorskip("jax")
    expected, found = forward_under("tensorflow"), forward_under(backend)
    for name in ("masked_lm_logits", "stay_logits"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-4)
