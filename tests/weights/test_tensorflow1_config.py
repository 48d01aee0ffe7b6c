# Covers: ehr_bert.weights.tensorflow1_graph
import json
import pickle

import numpy as np
import pytest
import tensorflow as tf
import torch
from transformers import BertForPreTraining

from ehr_bert.export.folder import export
from ehr_bert.weights.tensorflow1_config import read_config
from tests.user_errors import raises_user_error, warning_keys
from tests.weights.published import GOOGLE, MED_BERT, TOKENS, TYPES, Forward, erf_gelu, random_weights, save

v1 = tf.compat.v1
IDS = {token: number for number, token in enumerate(TOKENS)}


def graph(*, fused=False, epsilon=1e-12, activation=tf.tanh, pooled=tf.tanh):
    """Return the operations in which copies of the published code differ, with their names in that code.

    `fused` is the layer normalisation of Keras, as in the Med-BERT repository's newer `modeling.py`.
    """

    def compute():
        hidden = v1.placeholder(tf.float32, (3, 4))
        scale, offset = tf.ones(4), tf.zeros(4)
        with v1.name_scope("bert/embeddings/LayerNorm"):
            if fused:
                v1.nn.fused_batch_norm(
                    tf.reshape(hidden, (1, 3, 4, 1)),
                    tf.ones(3),
                    tf.zeros(3),
                    epsilon=epsilon,
                    data_format="NCHW",
                )
            else:
                mean, variance = tf.nn.moments(hidden, [1], keepdims=True)
                tf.nn.batch_normalization(hidden, mean, variance, offset, scale, epsilon)
        with v1.name_scope("bert/encoder/layer_0/intermediate/dense"):
            activation(hidden)
        with v1.name_scope("bert/pooler/dense"):
            pool_input = pooled(hidden) if pooled is tf.tanh else hidden
        with v1.name_scope("cls/seq_relationship"):
            pool_input = pool_input if pooled is tf.tanh else pooled(pool_input, 0, keepdims=True)
            tf.matmul(pool_input, tf.ones((4, 2)), name="MatMul")
            tf.reduce_sum(pool_input, name="Sum")

    return compute


@pytest.fixture(scope="module")
def weights():
    return random_weights({**GOOGLE, "num_hidden_layers": 1})


@pytest.fixture
def config(tmp_path):
    """Return a function that writes a config and returns its file."""

    def write(**keys):
        file = tmp_path / "config.json"
        file.write_text(json.dumps({**GOOGLE, "num_hidden_layers": 1, **keys}))
        return file

    return write


@pytest.mark.parametrize(
    ("computed", "expected"),
    [
        (graph(), (1e-12, "gelu_new", "cls")),
        (graph(fused=True, epsilon=1e-3), (1e-3, "gelu_new", "cls")),
        (graph(epsilon=1e-5, activation=tf.math.erf), (1e-5, "gelu", "cls")),
        (graph(activation=tf.nn.relu, pooled=tf.reduce_sum), (1e-12, "relu", "sum")),
        (graph(pooled=tf.reduce_mean), (1e-12, "gelu_new", "mean")),
    ],
)
def test_missing_settings_are_read_from_the_graph(tmp_path, weights, config, computed, expected, caplog):
    prefix = save(tmp_path / "old", weights, GOOGLE, compute=computed)
    model, _ = read_config(config(), prefix, IDS)
    assert (model.layer_norm_eps, model.hidden_act, model.stay_pooling) == expected
    assert warning_keys(caplog) == []


def test_a_graph_without_the_settings_leaves_the_published_values(tmp_path, weights, config, caplog):
    prefix = save(tmp_path / "old", weights, GOOGLE, compute=lambda: None)
    model, _ = read_config(config(), prefix, IDS)
    assert (model.layer_norm_eps, model.hidden_act, model.stay_pooling) == (1e-12, "gelu_new", "cls")
    assert warning_keys(caplog) == ["assumed-settings"]
    assert "hidden_act and layer_norm_eps" in caplog.text


def test_settings_are_read_from_the_config_without_a_graph(tmp_path, config, caplog):
    file = config(gelu="erf", layer_norm_eps=1e-3, stay_pooling="sum")
    model, _ = read_config(file, tmp_path / "model.ckpt-7", IDS)
    assert (model.layer_norm_eps, model.hidden_act, model.stay_pooling) == (1e-3, "gelu", "sum")
    assert warning_keys(caplog) == []


@pytest.mark.parametrize(
    ("keys", "mentioned"),
    [
        ({"layer_norm_eps": 1e-12}, ("config.json", "layer_norm_eps is 1e-12", 0.001)),
        ({"gelu": "tanh"}, ("hidden_act is gelu_new", "gelu in the graph", "model.ckpt-7.meta")),
        ({"hidden_act": "relu"}, ("hidden_act is relu", "gelu in the graph")),
        ({"stay_pooling": "cls"}, ("stay_pooling is cls", "sum in the graph")),
    ],
)
def test_a_config_that_differs_from_the_graph_is_refused(tmp_path, weights, config, keys, mentioned):
    computed = graph(fused=True, epsilon=1e-3, activation=tf.math.erf, pooled=tf.reduce_sum)
    prefix = save(tmp_path / "old", weights, GOOGLE, compute=computed)
    with raises_user_error("config-mismatch", *mentioned):
        read_config(config(**keys), prefix, IDS)


def test_a_damaged_graph_is_refused(tmp_path, config):
    (tmp_path / "model.ckpt-7.meta").write_bytes(b"\xff" * 9)
    with raises_user_error("unreadable-graph", "model.ckpt-7.meta"):
        read_config(config(), tmp_path / "model.ckpt-7", IDS)


@pytest.mark.parametrize(
    ("keys", "error", "mentioned"),
    [
        ({"vocab_size": None}, "missing-setting", "vocab_size"),
        ({"num_attention_heads": 4}, "indivisible-hidden-size", "num_attention_heads"),
        ({"hidden_act": "tanh"}, "invalid-setting", "hidden_act"),
        ({"gelu": "fast"}, "invalid-setting", "gelu"),
        ({"mask_id": 31}, "ids-out-of-range", "mask_id"),
        ({"cls_id": "[CLS]"}, "invalid-setting", "cls_id"),
    ],
)
def test_an_invalid_config_is_refused(tmp_path, config, keys, error, mentioned):
    with raises_user_error(error, "config.json", mentioned):
        read_config(config(**keys), tmp_path / "model.ckpt-7", IDS)


def test_an_activation_in_capitals_is_accepted_as_by_the_published_programs(tmp_path, config):
    assert read_config(config(hidden_act="GELU"), tmp_path / "none", IDS)[0].hidden_act == "gelu_new"
    assert read_config(config(hidden_act="ReLU"), tmp_path / "none", IDS)[0].hidden_act == "relu"


@pytest.mark.parametrize(
    ("ids", "keys", "mask_id", "cls_id", "pooling"),
    [
        (IDS, {}, 5, 3, "cls"),
        (TYPES, {}, 0, None, "first"),
        ({**TYPES, "[MASK]": 31, "[CLS]": 32}, {}, 0, None, "first"),
        (IDS, {"mask_id": 0, "cls_id": None}, 0, None, "first"),
        (None, {}, None, None, "cls"),
        (None, {"mask_id": 4, "cls_id": 2}, 4, 2, "cls"),
    ],
)
def test_the_meaning_of_ids_follows_from_config_and_vocabulary(
    tmp_path, config, ids, keys, mask_id, cls_id, pooling
):
    model, conventions = read_config(config(**keys), tmp_path / "model.ckpt-7", ids)
    assert (conventions.mask_id, conventions.cls_id) == (mask_id, cls_id)
    assert model.stay_pooling == pooling


def test_a_model_of_other_code_is_exported_with_the_settings_of_its_graph(tmp_path):
    """Med-BERT's second program, with the layer normalisation of Keras and the exact gelu."""
    weights = random_weights(MED_BERT)
    computed = graph(fused=True, epsilon=1e-3, activation=tf.math.erf, pooled=tf.reduce_sum)
    prefix = save(tmp_path / "old", weights, MED_BERT, compute=computed)
    (tmp_path / "old" / "cohort.types").write_bytes(pickle.dumps(TYPES))
    export(prefix, tmp_path / "out")
    ids, visits = [3, 17, 9, 0, 30], [1, 1, 2, 3, 3]
    forward = Forward(weights, MED_BERT, gelu=erf_gelu, epsilon=1e-3)
    hidden = forward.sequence(ids, visits)
    model = BertForPreTraining.from_pretrained(tmp_path / "out").eval()
    assert model.config.stay_pooling == "sum"
    with torch.no_grad():
        hidden_states = model.bert(
            torch.tensor([ids]), token_type_ids=torch.tensor([visits])
        ).last_hidden_state[0]
        codes, stay = model.cls.predictions(hidden_states), model.cls.seq_relationship(hidden_states.sum(0))
    np.testing.assert_allclose(codes, forward.masked_lm_logits(hidden), atol=2e-5)
    np.testing.assert_allclose(stay, forward.stay_logits(hidden, "sum"), atol=5e-5)
