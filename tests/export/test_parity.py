import dataclasses

import numpy as np
import pytest
import torch

from ehr_bert.export import model as exporting
from ehr_bert.export.model import hugging_face_model
from ehr_bert.export.parity import PARITY_TOLERANCE, check_parity
from ehr_bert.model.config import STAY_POOLINGS
from tests.export.small import ALL_KEPT, trained_model
from tests.model.small import LAYOUT, SMALL, alone, random_batch
from tests.user_errors import raises_user_error


@pytest.fixture(scope="module")
def model():
    return trained_model()


@pytest.mark.parametrize(
    ("pooling", "activation"),
    [*((pooling, "gelu") for pooling in STAY_POOLINGS), ("cls", "gelu_new"), ("mean", "relu")],
)
def test_both_models_compute_the_same_logits(pooling, activation):
    config = dataclasses.replace(SMALL, stay_pooling=pooling, hidden_act=activation)
    model = trained_model(config)
    batches = [random_batch(), random_batch(1)]
    parity = check_parity(model, hugging_face_model(model), [(batch, LAYOUT) for batch in batches], ALL_KEPT)
    assert parity.patients == sum(batch["patient_weights"].sum() for batch in batches)
    assert parity.masked_codes == sum(batch["masked_weights"].sum() for batch in batches)
    assert max(parity.masked_lm_logits, parity.stay_logits) < 2e-5


def test_the_stock_model_computes_the_logits_of_the_keras_model(model):
    packed = random_batch()
    batch, layout = alone(packed)
    (shape,) = layout.windows
    exported = hugging_face_model(model)
    rows = {name: torch.tensor(np.reshape(batch[name], shape)) for name in ("token_ids", "visit_ids")}
    with torch.no_grad():
        stock = exported(
            rows["token_ids"].long(),
            attention_mask=torch.tensor(np.reshape(batch["patient_ids"] > 0, shape)).long(),
            token_type_ids=rows["visit_ids"].long(),
        )
    expected = model(packed, layout=LAYOUT)
    masked = stock.prediction_logits.numpy().reshape(layout.positions, -1)[batch["masked_places"]]
    used = batch["masked_weights"] > 0
    np.testing.assert_allclose(masked[used], expected["masked_lm_logits"][used], atol=2e-5)
    stays = stock.seq_relationship_logits.numpy()
    np.testing.assert_allclose(stays, expected["stay_logits"][: len(stays)], atol=2e-5)


@pytest.mark.parametrize(
    "name",
    ["bert.encoder.layer.1.attention.self.value.bias", "cls.predictions.bias", "cls.seq_relationship.bias"],
)
def test_a_difference_over_the_tolerance_fails(model, name):
    exported = hugging_face_model(model)
    with torch.no_grad():
        dict(exported.named_parameters())[name][1] += 20 * PARITY_TOLERANCE
    with raises_user_error("export-not-equal"):
        check_parity(model, exported, [(random_batch(), LAYOUT)], ALL_KEPT)


def test_a_difference_that_is_not_a_number_fails(model):
    exported = hugging_face_model(model)
    exported.cls.predictions.bias.data[3] = float("nan")
    with raises_user_error("export-not-equal", "masked_lm_logits", "nan"):
        check_parity(model, exported, [(random_batch(), LAYOUT)], ALL_KEPT)


@pytest.mark.parametrize("kernel", ["attention/query", "attention/output", "masked_codes/transform"])
def test_a_square_kernel_that_is_not_transposed_fails(model, kernel, monkeypatch):
    monkeypatch.setattr(
        exporting, "is_kernel_transposed", lambda name: name.endswith("/kernel") and kernel not in name
    )
    with raises_user_error("export-not-equal"):
        check_parity(model, hugging_face_model(model), [(random_batch(), LAYOUT)], ALL_KEPT)


def test_a_comparison_without_examples_fails(model):
    with raises_user_error("no-examples"):
        check_parity(model, hugging_face_model(model), [], ALL_KEPT)
