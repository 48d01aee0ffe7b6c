import json
import pickle

import numpy as np
import pytest
import tensorflow as tf
import torch
from transformers import BertForPreTraining

from ehr_bert.errors import UserError
from ehr_bert.export.folder import export
from ehr_bert.weights.tensorflow1_config import read_config
from tests.weights.published import GOOGLE, MED_BERT, TOKENS, TYPES, Forward, erf_gelu, random_weights, save

v1 = tf.compat.v1
IDS = {token: number for number, token in enumerate(TOKENS)}


def graph(*, fused=False, epsilon=1e-12, activation=tf.tanh, pooled=tf.tanh):
    """The operations by which copies of the published code differ, under the names that they have there.

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
            read = pooled(hidden) if pooled is tf.tanh else hidden
        with v1.name_scope("cls/seq_relationship"):
            read = read if pooled is tf.tanh else pooled(read, 0, keepdims=True)
            tf.matmul(read, tf.ones((4, 2)), name="MatMul")
            tf.reduce_sum(read, name="Sum")

    return compute


@pytest.fixture(scope="module")
def weights():
    return random_weights({**GOOGLE, "num_hidden_layers": 1})


@pytest.fixture
def config(tmp_path):
    """Writes a config; returns its file."""

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
def test_the_graph_tells_what_the_config_does_not(tmp_path, weights, config, computed, expected, capsys):
    prefix = save(tmp_path / "old", weights, GOOGLE, compute=computed)
    found, _ = read_config(config(), prefix, IDS)
    assert (found.layer_norm_eps, found.hidden_act, found.stay_pooling) == expected
    assert not capsys.readouterr().out


def test_a_graph_that_tells_nothing_leaves_the_published_choices(tmp_path, weights, config, capsys):
    prefix = save(tmp_path / "old", weights, GOOGLE, compute=lambda: None)
    found, _ = read_config(config(), prefix, IDS)
    assert (found.layer_norm_eps, found.hidden_act, found.stay_pooling) == (1e-12, "gelu_new", "cls")
    assert "hidden_act and layer_norm_eps: taken as published" in capsys.readouterr().out


def test_the_config_tells_where_there_is_no_graph(tmp_path, config, capsys):
    file = config(gelu="erf", layer_norm_eps=1e-3, stay_pooling="sum")
    found, _ = read_config(file, tmp_path / "model.ckpt-7", IDS)
    assert (found.layer_norm_eps, found.hidden_act, found.stay_pooling) == (1e-3, "gelu", "sum")
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"layer_norm_eps": 1e-12},
            r"config\.json says layer_norm_eps = 1e-12, the graph .* computes 0\.001",
        ),
        ({"gelu": "tanh"}, r"says hidden_act = gelu_new, the graph .*model\.ckpt-7\.meta computes gelu: "),
        ({"hidden_act": "relu"}, r"says hidden_act = relu, the graph .* computes gelu: correct the config"),
        ({"stay_pooling": "cls"}, r"says stay_pooling = cls, the graph .* computes sum"),
    ],
)
def test_a_config_that_says_something_else_than_the_graph_is_refused(
    tmp_path, weights, config, keys, message
):
    computed = graph(fused=True, epsilon=1e-3, activation=tf.math.erf, pooled=tf.reduce_sum)
    prefix = save(tmp_path / "old", weights, GOOGLE, compute=computed)
    with pytest.raises(UserError, match=message):
        read_config(config(**keys), prefix, IDS)


def test_a_graph_that_is_damaged_is_named(tmp_path, config):
    (tmp_path / "model.ckpt-7.meta").write_bytes(b"\xff" * 9)
    with pytest.raises(UserError, match=r"model\.ckpt-7\.meta is no TensorFlow graph"):
        read_config(config(), tmp_path / "model.ckpt-7", IDS)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"vocab_size": None}, r"config\.json says no vocab_size: name the config"),
        (
            {"num_attention_heads": 4},
            r"config\.json: hidden_size 15 is not a multiple of num_attention_heads 4",
        ),
        ({"hidden_act": "tanh"}, r'hidden_act must be one of "gelu", "gelu_new", "relu", not "tanh"'),
        ({"gelu": "fast"}, r"gelu must be one of tanh, erf, not fast"),
        ({"mask_id": 31}, r"mask_id is 31, and the model has 31 tokens"),
        ({"cls_id": "[CLS]"}, r'cls_id must be a whole number, 0 or more, not "\[CLS\]"'),
    ],
)
def test_a_config_that_does_not_fit_is_refused(tmp_path, config, keys, message):
    with pytest.raises(UserError, match=message):
        read_config(config(**keys), tmp_path / "model.ckpt-7", IDS)


def test_an_activation_in_capitals_is_known_as_the_published_programs_know_it(tmp_path, config):
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
def test_what_ids_mean_follows_from_config_and_vocabulary(
    tmp_path, config, ids, keys, mask_id, cls_id, pooling
):
    found, conventions = read_config(config(**keys), tmp_path / "model.ckpt-7", ids)
    assert (conventions.mask_id, conventions.cls_id) == (mask_id, cls_id)
    assert found.stay_pooling == pooling


def test_a_model_of_other_code_is_exported_as_its_graph_computes(tmp_path):
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
        found = model.bert(torch.tensor([ids]), token_type_ids=torch.tensor([visits])).last_hidden_state[0]
        codes, stay = model.cls.predictions(found), model.cls.seq_relationship(found.sum(0))
    np.testing.assert_allclose(codes, forward.masked_lm_logits(hidden), atol=2e-5)
    np.testing.assert_allclose(stay, forward.stay_logits(hidden, "sum"), atol=5e-5)
