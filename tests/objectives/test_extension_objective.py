"""An objective of another installed package, which enters through one file."""

# Covers: ehr_bert.objectives.objective, ehr_bert.export.heads, ehr_bert.examples.labels

import dataclasses
import json
import logging
import tomllib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file
from transformers import AutoModel

from ehr_bert.export.folder import export
from ehr_bert.model.pretraining import build_model
from ehr_bert.objectives import OBJECTIVES
from ehr_bert.training.execution import PretrainingResult, pretrain
from ehr_bert.training.plan import plan_from_features
from ehr_bert.training.recipe import Recipe
from ehr_bert.training.record.checkpoints import read_weights
from ehr_bert.training.request import PretrainingRequest
from tests.extension_command import EXTENSION_PACKAGE
from tests.training.continuing import fast_runs
from tests.training.small import write_packed
from tests.user_errors import raises_user_error

RECIPE = """
compile = false
report_every = 2
precision = "float32"
[model]
hidden_size = 12
num_hidden_layers = 1
num_attention_heads = 3
intermediate_size = 5
max_position_embeddings = 17
type_vocab_size = 3
[[phases]]
batch_patients = 5
steps = 4
learning_rate = 1e-2
[checkpoints]
every_steps = 2
"""
OBJECTIVE = "[visit_count]\nweight = 2.0\nthreshold_visits = 2\n"
WEIGHTS = {"visit_count/score/kernel": (12, 1), "visit_count/score/bias": (1,)}


class Trained(NamedTuple):
    """A training with the objective, and one without it."""

    folder: Path
    request: PretrainingRequest
    result: PretrainingResult


@pytest.fixture(scope="module", autouse=True)
def installed():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXTENSION_PACKAGE))
        OBJECTIVES.__dict__.pop("_installed", None)
        yield
    OBJECTIVES.__dict__.pop("_installed", None)


@pytest.fixture(scope="module", autouse=True)
def _fast():
    with fast_runs():
        yield


def recipe_of(text):
    return Recipe.from_dict(tomllib.loads(text))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("objective")
    features = [write_packed(folder, 7, 13)]
    request = PretrainingRequest(features, folder / "with", recipe_of(RECIPE + OBJECTIVE))
    pretrain(dataclasses.replace(request, output=folder / "without", recipe=recipe_of(RECIPE)))
    return Trained(folder, request, pretrain(request))


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_it_is_trained_and_evaluated_with_its_baseline(trained):
    first, *_, evaluation = lines(trained.request.output)
    assert {"train/visit_count_loss", "train/visit_count_accuracy"} <= first.keys()
    loss = evaluation["eval/visit_count_loss"]
    assert evaluation["eval/visit_count_baseline_accuracy"] >= 0.5
    others = evaluation["eval/masked_lm_loss"] + evaluation["eval/next_sentence_loss"]
    assert evaluation["eval/loss"] == pytest.approx(others + 2 * loss)
    assert f"visit_count_loss = {loss}\n" in (trained.request.output / "eval_results.txt").read_text()
    assert f"visit count     loss {loss:.4f} (" in str(trained.result)


def test_its_labels_are_those_of_the_stored_visits(trained):
    baseline = trained.result.evaluation.objectives["visit_count"].baseline
    visits = [
        np.split(np.array(features["visit_ids"].int64_list.value), np.cumsum(lengths)[:-1])
        for file in trained.request.features[0].held_out
        for record in tf.data.TFRecordDataset(str(file))
        for features in [tf.train.Example.FromString(record.numpy()).features.feature]
        for lengths in [features["patient_lengths"].int64_list.value]
    ]
    share = np.mean([part.max() > 2 for window in visits for part in window])
    assert 0 < share < 1
    assert baseline["accuracy"] == pytest.approx(max(share, 1 - share))


def test_without_its_table_nothing_of_it_exists(trained):
    folder = trained.folder / "without"
    assert not [name for name in read_weights(folder) if name.startswith("visit_count")]
    assert "visit_count" not in (folder / "recipe.toml").read_text()
    assert "visit_count" not in (folder / "metrics.jsonl").read_text()


def test_the_stock_weights_start_alike_with_and_without_it():
    config = dataclasses.replace(recipe_of(RECIPE).model, vocab_size=9)
    heads = recipe_of(RECIPE + OBJECTIVE).additional_heads()
    models = [build_model(config, 3, additional_heads=additional) for additional in (heads, {})]
    own, stock = ({variable.path: variable.numpy() for variable in model.variables} for model in models)
    assert own.keys() - stock.keys() == {f"ehr_bert/{name}" for name in WEIGHTS}
    for path, value in stock.items():
        np.testing.assert_array_equal(own[path], value)


def test_a_resumed_training_ends_with_the_same_weights(trained):
    folder, expected = trained.request.output, read_weights(trained.request.output)
    assert expected.keys() >= WEIGHTS.keys()
    (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-2"\n')
    (folder / "best").unlink()
    pretrain(trained.request)
    resumed = read_weights(folder)
    assert resumed.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(resumed[name], value)


def test_its_head_is_exported_next_to_a_stock_model(trained, caplog):
    export(trained.request.output, trained.folder / "H", min_patients=0)
    heads = load_file(trained.folder / "H" / "heads.safetensors")
    weights = read_weights(trained.request.output)
    assert {name: value.shape for name, value in heads.items()} == WEIGHTS
    for name, value in heads.items():
        np.testing.assert_array_equal(value, weights[name])
    assert json.loads((trained.folder / "H" / "summary.json").read_text())["heads"] == {"visit_count": 13}
    card = (trained.folder / "H" / "README.md").read_text()
    assert "`visit_count` (13 parameters)" in card
    assert "| visit count: accuracy |" in card
    assert AutoModel.from_pretrained(trained.folder / "H").config.num_hidden_layers == 1


def test_an_export_needs_neither_the_package_nor_writes_a_file_without_it(trained, monkeypatch):
    export(trained.folder / "without", trained.folder / "stock", min_patients=0)
    assert not (trained.folder / "stock" / "heads.safetensors").exists()
    assert "heads" not in json.loads((trained.folder / "stock" / "summary.json").read_text())
    monkeypatch.setitem(OBJECTIVES.__dict__, "_installed", {})
    with raises_user_error("unknown-setting", "visit_count"):
        Recipe.read(trained.request.output / "recipe.toml")
    export(trained.request.output, trained.folder / "unknown", min_patients=0)
    assert load_file(trained.folder / "unknown" / "heads.safetensors").keys() == WEIGHTS.keys()


@pytest.mark.parametrize("source", ["with", "H"])
def test_a_model_is_initialised_with_the_head_or_reports_that_it_is_not_used(trained, caplog, source):
    caplog.set_level(logging.INFO, logger="ehr_bert")
    if source == "H":
        export(trained.request.output, trained.folder / "H", min_patients=0)
    shape = RECIPE[RECIPE.index("[model]") : RECIPE.index("[[phases]]")]
    text = RECIPE.replace(shape, "").replace("1e-2", "0.0").replace("steps = 4", "steps = 1")
    text = f'init = "{trained.folder / source}"\n{text}'
    request = dataclasses.replace(trained.request, evaluate=False)
    output = trained.folder / f"from-{source}"
    pretrain(dataclasses.replace(request, output=output, recipe=recipe_of(text + OBJECTIVE)))
    child, parent = read_weights(output), read_weights(trained.request.output)
    for name in WEIGHTS:
        np.testing.assert_array_equal(child[name], parent[name])
    assert "not used" not in caplog.text
    output = trained.folder / f"stock-from-{source}"
    pretrain(dataclasses.replace(request, output=output, recipe=recipe_of(text)))
    assert "not used: visit_count/score/bias, visit_count/score/kernel" in caplog.text


def test_a_plan_counts_its_head_and_its_predictions(trained):
    plan = plan_from_features(trained.request.recipe, trained.request.features, devices=1)
    model = build_model(plan.config, 0, additional_heads=trained.request.recipe.additional_heads())
    assert plan.parameters == model.count_params()
    (phase,) = plan.phases
    assert phase.predictions["visit count"] == phase.predictions["prolonged stay"] == 4 * 5
