# Covers: ehr_bert.model.attention, ehr_bert.model.embeddings, ehr_bert.model.encoder,
# ehr_bert.model.fusing, ehr_bert.model.heads
import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from ehr_bert.examples.layout import Layout
from ehr_bert.model.config import STAY_POOLINGS
from ehr_bert.model.pretraining import build_model
from tests.model.small import LAYOUT, SMALL, VOCABULARY, alone, random_batch

PER_POSITION = ("token_ids", "visit_ids", "position_ids", "patient_ids", "dropout_keys")


def outputs(config, batch, layout=LAYOUT, seed=3, **kwargs):
    model = build_model(config, seed)
    return {name: value.numpy() for name, value in model(batch, layout=layout, **kwargs).items()}


def assert_equal_where_used(actual, expected, batch, atol=1e-6):
    for name, weights in (("masked_lm_logits", "masked_weights"), ("stay_logits", "patient_weights")):
        used = batch[weights] > 0
        np.testing.assert_allclose(actual[name][used], expected[name][used], atol=atol, err_msg=name)


def test_scores_have_the_shapes_of_masked_places_and_patients():
    actual = outputs(SMALL, random_batch())
    assert actual["masked_lm_logits"].shape == (LAYOUT.masked, VOCABULARY)
    assert actual["stay_logits"].shape == (LAYOUT.patients, 2)


def test_the_same_seed_gives_the_same_model_and_another_seed_another():
    batch = random_batch()
    one, same, other = (outputs(SMALL, batch, seed=seed)["stay_logits"] for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-4


@pytest.mark.parametrize("pooling", STAY_POOLINGS)
@pytest.mark.parametrize("training", [False, True])
def test_a_patient_among_others_is_scored_as_alone(pooling, training):
    config = dataclasses.replace(SMALL, stay_pooling=pooling, attention_probs_dropout_prob=0.0)
    batch = random_batch()
    separate, layout = alone(batch)
    expected = outputs(config, separate, layout, training=training)
    assert_equal_where_used(outputs(config, batch, training=training), expected, batch)


@pytest.mark.parametrize("pooling", STAY_POOLINGS)
def test_what_stands_at_padding_changes_nothing(pooling):
    config = dataclasses.replace(SMALL, stay_pooling=pooling)
    batch = random_batch()
    other = {**batch, "token_ids": np.where(batch["patient_ids"] == 0, 9, batch["token_ids"])}
    assert_equal_where_used(outputs(config, other), outputs(config, batch), batch)


def test_a_visit_and_a_position_matter():
    batch = random_batch()
    expected = outputs(SMALL, batch)["masked_lm_logits"]
    for name, values in (
        ("visit_ids", np.where(batch["visit_ids"] == 2, 3, batch["visit_ids"])),
        ("position_ids", np.where(batch["position_ids"] == 1, 9, batch["position_ids"])),
    ):
        actual = outputs(SMALL, {**batch, name: values})["masked_lm_logits"]
        assert np.abs(actual - expected).max() > 1e-4


def test_first_pooling_reads_the_first_code_whether_or_not_there_is_a_cls():
    batch = random_batch()
    first = build_model(dataclasses.replace(SMALL, stay_pooling="first"), 3)
    hidden = first.encoder(batch, layout=LAYOUT).numpy()
    used = batch["patient_places"][batch["patient_weights"] > 0]
    expected = first.stay.relationship(first.stay.pooler(hidden[used + 1])).numpy()
    actual = first(batch, layout=LAYOUT)["stay_logits"].numpy()
    np.testing.assert_allclose(actual[: len(used)], expected, atol=1e-6)
    without = {**batch, "visit_ids": np.maximum(batch["visit_ids"], 1)}
    cls = build_model(SMALL, 3)
    np.testing.assert_allclose(
        first(without, layout=LAYOUT)["stay_logits"], cls(without, layout=LAYOUT)["stay_logits"], atol=1e-6
    )


def test_bfloat16_products_change_little():
    batch = random_batch()
    expected = outputs(SMALL, batch)
    model = build_model(SMALL, 3, precision="bfloat16")
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
    actual = {name: np.asarray(value, "float32") for name, value in model(batch, layout=LAYOUT).items()}
    assert_equal_where_used(actual, expected, batch, atol=0.02)


def test_dropout_follows_from_its_keys_alone():
    batch = random_batch()
    one, same = (outputs(SMALL, batch, training=True) for _ in range(2))
    other = outputs(SMALL, {**batch, "dropout_keys": batch["dropout_keys"] + 1}, training=True)
    for name in one:
        np.testing.assert_array_equal(one[name], same[name])
        assert np.abs(one[name] - other[name]).max() > 1e-3


FORWARD = """
import json, sys
import numpy as np, keras
from ehr_bert.model.pretraining import build_model
from tests.model.small import LAYOUT, SMALL, random_batch
model = build_model(SMALL, 3)
rng = np.random.default_rng(5)
for variable in model.trainable_variables:
    variable.assign(rng.normal(0, 0.3, variable.shape))
scores = model(random_batch(), layout=LAYOUT)
print(json.dumps({name: keras.ops.convert_to_numpy(value).tolist() for name, value in scores.items()}))
"""


def forward_under(backend):
    environment = os.environ | {"KERAS_BACKEND": backend}
    done = subprocess.run(
        [sys.executable, "-c", FORWARD], env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def under_tensorflow():
    return forward_under("tensorflow")


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_the_model_computes_the_same_under_other_keras_backends(under_tensorflow, backend):
    if backend == "jax":
        pytest.importorskip("jax")
    expected, actual = under_tensorflow, forward_under(backend)
    for name in ("masked_lm_logits", "stay_logits"):
        np.testing.assert_allclose(actual[name], expected[name], atol=1e-4)


def test_a_layout_counts_its_positions():
    assert Layout(((2, 7), (3, 11)), 1, 1).positions == 47
