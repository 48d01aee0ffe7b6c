# Covers: ehr_bert.prediction.frozen, ehr_bert.prediction.optimization, ehr_bert.prediction.contenders.search

import copy
import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from ehr_bert.prediction.batches import collate
from ehr_bert.prediction.contenders.search import candidates, search
from ehr_bert.prediction.encoders import bert_encoder, code_embedding
from ehr_bert.prediction.fitting import binary_loss, binary_score, fit, predict_logits
from ehr_bert.prediction.frozen import batch_of, frozen_vectors
from ehr_bert.prediction.heads import HEADS
from ehr_bert.prediction.optimization import (
    FitSettings,
    OptimizerStep,
    Runtime,
    SearchFitSettings,
    parameter_groups,
)
from ehr_bert.prediction.predictor import make_predictor
from ehr_bert.prediction.reading import ModelVocabulary, encode
from tests.prediction.small import has_code, histories_of, random_patients
from tests.user_errors import raises_user_error

TRAIN, VALID = random_patients(120, seed=1), random_patients(50, seed=2)
QUICK = FitSettings(learning_rate=3e-3, epochs=1, least_updates=90, evaluate_updates=15, precision="float32")


@pytest.fixture(scope="module")
def train(export):
    return encode(histories_of(TRAIN), ModelVocabulary.of_folder(export))


@pytest.fixture(scope="module")
def valid(export):
    return encode(histories_of(VALID), ModelVocabulary.of_folder(export))


def fit_new(export, train, valid, settings=QUICK, head="mean", seed=0, frozen=False):
    predictor = make_predictor(bert_encoder(export), head)
    outcome = fit(predictor, train, has_code(TRAIN), valid, has_code(VALID), settings, seed, frozen)
    return predictor, outcome


def test_a_fit_learns_and_keeps_the_best_weights(export, train, valid):
    predictor, outcome = fit_new(export, train, valid)
    assert outcome.valid["auroc"] > 0.9
    assert outcome.updates <= 92
    assert outcome.best_update <= outcome.updates
    again = binary_score(has_code(VALID))(predict_logits(predictor, valid))
    assert again["auroc"] == pytest.approx(outcome.valid["auroc"])
    assert again["loss"] == pytest.approx(outcome.valid["loss"], abs=1e-5)


def test_the_seed_determines_a_fit(export, train, valid):
    settings = FitSettings(epochs=1, least_updates=1, precision="float32")
    torch.manual_seed(11)
    state = torch.get_rng_state()
    one, same, other = (
        predict_logits(fit_new(export, train, valid, settings, seed=seed)[0], valid) for seed in (0, 0, 1)
    )
    assert np.array_equal(one, same)
    assert not np.allclose(one, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_fit_stops_without_improvement(export, train, valid):
    settings = FitSettings(
        learning_rate=1e-12, least_updates=400, evaluate_updates=1, patience=3, precision="float32"
    )
    _, outcome = fit_new(export, train, valid, settings)
    assert outcome.updates < 400
    assert outcome.updates == outcome.best_update + 3


@pytest.mark.parametrize("head", HEADS)
def test_a_frozen_encoder_is_unchanged_and_its_head_is_fitted(export, train, valid, head):
    settings = FitSettings(learning_rate=1e-2, least_updates=40, evaluate_updates=10)
    predictor, outcome = fit_new(export, train, valid, settings, head, frozen=True)
    fresh = make_predictor(bert_encoder(export), head)
    before, after = fresh.encoder.state_dict(), predictor.encoder.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert outcome.valid["auroc"] >= binary_score(has_code(VALID))(predict_logits(fresh, valid))["auroc"]


def test_bert_changes_only_if_that_improves_on_the_head_alone(export, train, valid):
    rate = 1e-2
    alone = FitSettings(learning_rate=rate, least_updates=40, evaluate_updates=10)
    whole = FitSettings(learning_rate=1e-12, head_learning_rate=rate, least_updates=40, evaluate_updates=10)
    one, head_alone = fit_new(export, train, valid, alone, frozen=True)
    other, both = fit_new(export, train, valid, whole)
    assert both.valid["auroc"] >= head_alone.valid["auroc"]
    np.testing.assert_allclose(predict_logits(one, valid), predict_logits(other, valid), atol=1e-4)


@pytest.mark.parametrize("head", HEADS)
def test_frozen_vectors_give_the_same_logits(export, valid, head):
    predictor = make_predictor(bert_encoder(export), head, outputs=2)
    rows = np.array([5, 49, 0])
    once = frozen_vectors(predictor.encoder, predictor.head, valid, batch_tokens=64)
    np.testing.assert_allclose(predict_logits(predictor, once), predict_logits(predictor, valid), atol=1e-5)
    np.testing.assert_allclose(
        predict_logits(predictor, once.take(rows)), predict_logits(predictor, valid)[rows], atol=1e-5
    )


def test_a_model_from_scratch_is_fitted():
    histories = histories_of(TRAIN)
    vocabulary = ModelVocabulary.of_codes(histories)
    predictor = make_predictor(code_embedding(len(vocabulary), seed=0), "gru")
    train, valid = encode(histories, vocabulary), encode(histories_of(VALID), vocabulary)
    settings = FitSettings(learning_rate=1e-2, least_updates=60, epochs=1, evaluate_updates=15)
    outcome = fit(predictor, train, has_code(TRAIN), valid, has_code(VALID), settings, seed=0)
    assert outcome.valid["auroc"] > 0.9


def test_labels_that_are_all_equal_are_refused(export, train, valid):
    predictor = make_predictor(bert_encoder(export), "cls")
    with raises_user_error("one-class-only", 120, "training"):
        fit(predictor, train, np.zeros(120), valid, has_code(VALID), QUICK, seed=0)


def test_a_diverging_loss_is_refused(export, train, valid):
    with raises_user_error("loss-not-finite", 1e30):
        fit_new(export, train, valid, FitSettings(learning_rate=1e30, warmup=0.0, precision="float32"))


def test_rates_fall_from_the_head_to_the_embeddings(export):
    predictor = make_predictor(bert_encoder(export), "cls")
    settings = FitSettings(learning_rate=1.0, layer_decay=0.5, weight_decay=0.1)
    groups = parameter_groups(predictor.encoder, predictor.head, settings)
    rate = {id(weight): group["lr"] for group in groups for weight in group["params"]}
    decay = {id(weight): group["weight_decay"] for group in groups for weight in group["params"]}
    layers = predictor.encoder.bert.encoder.layer
    assert rate[id(predictor.head.linear.weight)] == 1.0
    assert rate[id(layers[1].output.dense.weight)] == 0.5
    assert rate[id(layers[0].output.dense.weight)] == 0.25
    assert rate[id(predictor.encoder.token_embedding.weight)] == 0.125
    assert decay[id(layers[0].output.dense.weight)] == 0.1
    assert decay[id(layers[0].output.dense.bias)] == 0.0
    frozen = parameter_groups(predictor.encoder, predictor.head, settings, frozen=True)
    assert sum(len(group["params"]) for group in frozen) == 2


def test_an_update_equals_adamw(export, train):
    predictor = make_predictor(bert_encoder(export), "mean")
    reference = copy.deepcopy(predictor)
    settings = FitSettings(learning_rate=1e-3, layer_decay=1.0, weight_decay=0.0, warmup=0.0)
    rows, labels = np.arange(7), has_code(TRAIN)
    runtime = Runtime("float32")
    update = OptimizerStep(
        parameter_groups(predictor.encoder, predictor.head, settings), 10, settings, runtime
    )
    value = update(predictor, train, rows, binary_loss(labels))
    adamw = torch.optim.AdamW(
        [weight for weight in reference.parameters() if weight.requires_grad], lr=1e-3, weight_decay=0.0
    )
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        reference(collate(train, rows))[:, 0], torch.as_tensor(labels[:7], dtype=torch.float32)
    )
    expected.backward()
    torch.nn.utils.clip_grad_norm_(reference.parameters(), 1.0)
    adamw.step()
    assert value == pytest.approx(float(expected.detach()), rel=1e-5)
    for one, other in zip(predictor.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_bfloat16_is_close_to_float32(export, valid):
    predictor = make_predictor(bert_encoder(export), "retain")
    exact, rounded = (
        predict_logits(predictor, valid, runtime=Runtime(precision)) for precision in ("float32", "bfloat16")
    )
    assert not np.array_equal(exact, rounded)
    np.testing.assert_allclose(exact, rounded, atol=0.05)


def test_a_head_is_fitted_first_in_bfloat16_as_well(export, train, valid):
    settings = replace(QUICK, head_first=True, precision="bfloat16")
    assert fit_new(export, train, valid, settings)[1].valid["auroc"] > 0.9


def test_a_search_keeps_the_best_on_validation(export, train, valid):
    def fit_candidate(predictor, settings):
        return fit(predictor, train, has_code(TRAIN), valid, has_code(VALID), settings, seed=0)

    settings = SearchFitSettings(epochs=1, least_updates=90, evaluate_updates=15, precision="float32")
    outcome = search(
        lambda: make_predictor(bert_encoder(export), "mean"),
        fit_candidate,
        candidates(settings, (1e-9, 3e-3)),
    )
    assert outcome.settings.learning_rate == 3e-3
    assert outcome.tried[1] == outcome.fitted.score > outcome.tried[0]


def test_the_score_is_that_of_the_first_output():
    labels = np.array([0.0, 1.0, 1.0])
    outcome = binary_score(labels)(np.array([[0.0], [1.0], [-1.0]], np.float32))
    assert outcome["auroc"] == 0.5
    assert outcome["loss"] == pytest.approx(np.mean([np.log(2), np.log1p(np.exp(-1)), np.log1p(np.exp(1))]))


PROGRAM = """
import json, sys
import numpy as np
from pathlib import Path
from tests.prediction.test_fitting import *
export = Path(sys.argv[1])
vocabulary = ModelVocabulary.of_folder(export)
train, valid = (encode(histories_of(patients), vocabulary) for patients in (TRAIN, VALID))
predictor = make_predictor(bert_encoder(export), "gru")
for module in predictor.modules():
    if isinstance(module, torch.nn.Dropout):
        module.p = 0.0
settings = FitSettings(
    learning_rate=1e-3, epochs=1, least_updates=12, batch_examples=17, evaluate_updates=4, precision="float32"
)
fit(predictor, train, has_code(TRAIN), valid, has_code(VALID), settings, seed=0)
runtime = Runtime("float32")
outcome = predict_logits(predictor, valid, 64, runtime)
if runtime.accelerator.is_main_process:
    Path(sys.argv[2]).write_text(json.dumps(outcome.tolist()))
"""


@pytest.mark.slow
def test_two_processes_give_the_result_of_one(export, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    outcome = []
    for processes in (1, 2):
        out = tmp_path / f"{processes}.json"
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        launch += [f"--nproc-per-node={processes}"]
        environment = os.environ | {"PYTHONPATH": os.getcwd(), "ACCELERATE_USE_CPU": "true"}
        done = subprocess.run(
            [*launch, str(program), str(export), str(out)], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-2000:]
        outcome.append(json.loads(out.read_text()))
    np.testing.assert_allclose(outcome[0], outcome[1], rtol=1e-3, atol=1e-5)


def test_both_kinds_of_batches_have_their_rows(export, valid):
    predictor = make_predictor(bert_encoder(export), "gru")
    rows = np.array([3, 1])
    for inputs in (valid, frozen_vectors(predictor.encoder, predictor.head, valid, 64)):
        assert batch_of(inputs, rows).rows.tolist() == [3, 1]
