import dataclasses

import numpy as np
import pytest
import torch

from ehr_bert.errors import UserError
from ehr_bert.export import model as exporting
from ehr_bert.export.model import hugging_face_model
from ehr_bert.export.parity import TOLERANCE, check_parity, logits
from ehr_bert.model.config import STAY_POOLINGS
from tests.export.small import trained_model
from tests.model.small import BATCH, SMALL, random_batch


@pytest.fixture(scope="module")
def model():
    return trained_model()


@pytest.mark.parametrize(
    ("pooling", "activation"),
    [*((pooling, "gelu") for pooling in STAY_POOLINGS), ("cls", "gelu_new"), ("mean", "relu")],
)
def test_both_models_give_the_same_logits(pooling, activation):
    config = dataclasses.replace(SMALL, stay_pooling=pooling, hidden_act=activation)
    model = trained_model(config)
    batch = random_batch()
    found = check_parity(model, hugging_face_model(model), [batch, random_batch(1)])
    assert found.patients == 2 * BATCH
    assert found.masked_codes == batch["masked_lm_weights"].sum() + random_batch(1)["masked_lm_weights"].sum()
    assert max(found.masked_lm_logits, found.stay_logits) < 2e-5


def test_the_stock_model_as_a_whole_gives_the_keras_models_logits(model):
    batch = random_batch()
    exported = hugging_face_model(model)
    with torch.no_grad():
        stock = exported(
            torch.tensor(batch["input_ids"]),
            attention_mask=torch.tensor(batch["input_mask"]),
            token_type_ids=torch.tensor(batch["segment_ids"]),
        )
    expected = model(batch)
    masked = stock.prediction_logits.numpy()[np.arange(BATCH)[:, None], batch["masked_lm_positions"]]
    np.testing.assert_allclose(masked, expected["masked_lm_logits"], atol=2e-5)
    np.testing.assert_allclose(stock.seq_relationship_logits, expected["stay_logits"], atol=2e-5)


def test_padding_changes_no_logit_of_the_exported_model(model):
    batch = random_batch()
    padded = dict(batch)
    for name in ("input_ids", "input_mask", "segment_ids"):
        padded[name] = np.pad(batch[name], ((0, 0), (0, 4)))
    exported = hugging_face_model(model)
    for pooling in STAY_POOLINGS:
        exported.config.stay_pooling = pooling
        expected, found = logits(exported, batch), logits(exported, padded)
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name], atol=2e-5)


@pytest.mark.parametrize(
    "name",
    ["bert.encoder.layer.1.attention.self.value.bias", "cls.predictions.bias", "cls.seq_relationship.bias"],
)
def test_a_difference_over_the_tolerance_fails(model, name):
    exported = hugging_face_model(model)
    with torch.no_grad():
        dict(exported.named_parameters())[name][1] += 20 * TOLERANCE
    with pytest.raises(UserError, match="TensorFlow and PyTorch differ by"):
        check_parity(model, exported, [random_batch()])


def test_a_difference_that_is_no_number_fails(model):
    exported = hugging_face_model(model)
    exported.cls.predictions.bias.data[3] = float("nan")
    with pytest.raises(UserError, match="masked_lm_logits of TensorFlow and PyTorch differ by nan"):
        check_parity(model, exported, [random_batch()])


@pytest.mark.parametrize("left_out", ["attention/query", "attention/output", "masked_codes/transform"])
def test_a_square_kernel_that_is_not_transposed_fails(model, left_out, monkeypatch):
    monkeypatch.setattr(
        exporting, "is_transposed", lambda name: name.endswith("/kernel") and left_out not in name
    )
    with pytest.raises(UserError, match="TensorFlow and PyTorch differ by"):
        check_parity(model, hugging_face_model(model), [random_batch()])


def test_no_examples_are_no_proof(model):
    with pytest.raises(UserError, match="no examples"):
        check_parity(model, hugging_face_model(model), [])
