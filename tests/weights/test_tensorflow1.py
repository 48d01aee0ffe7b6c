# Covers: ehr_bert.export.tensorflow1
import dataclasses
import json
import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
import torch
from transformers import AutoTokenizer, BertForPreTraining

from ehr_bert.cli import main
from ehr_bert.export.folder import export
from ehr_bert.export.tensorflow1 import export_tensorflow1
from ehr_bert.model.config import ModelConfig
from ehr_bert.weights.names import parameter_names
from ehr_bert.weights.tensorflow1 import (
    is_tensorflow1,
    pretrained_tensorflow1,
    read_tensorflow1,
    variable_names,
    write_tensorflow1,
)
from tests.export.small import trained_model, training_folder
from tests.model.small import SMALL
from tests.user_errors import raises_user_error, warning_keys
from tests.weights import published
from tests.weights.published import (
    GOOGLE,
    MED_BERT,
    Forward,
    erf_gelu,
    google,
    med_bert,
    random_weights,
    save,
)

PATIENTS = {
    "med_bert": [([3, 17, 9, 0, 30], [1, 1, 2, 3, 3]), ([8], [1]), ([12, 0, 4], [1, 2, 9])],
    "google": [([3, 17, 9, 5, 30], [0, 0, 0, 1, 1]), ([3, 5], [0, 1]), ([3, 12, 5, 7], [0, 0, 1, 1])],
}
MAKERS = {"med_bert": (med_bert, MED_BERT), "google": (google, GOOGLE)}


def logits_of(folder, patients):
    """Return the logits of an exported model for a padded batch: `[T, V]` and `[2]` per patient."""
    model = BertForPreTraining.from_pretrained(folder).eval()
    longest = max(len(ids) for ids, _ in patients)

    def padded(rows):
        return torch.tensor([row + [0] * (longest - len(row)) for row in rows])

    ids, visits = zip(*patients, strict=True)
    with torch.no_grad():
        output = model(
            padded(ids), attention_mask=padded([[1] * len(row) for row in ids]), token_type_ids=padded(visits)
        )
    return [
        (codes[: len(row)].numpy(), stay.numpy())
        for row, codes, stay in zip(
            ids, output.prediction_logits, output.seq_relationship_logits, strict=True
        )
    ]


def differences(folder, forward, patients):
    """Return the largest differences from an independent forward pass, for code and stay logits."""
    codes, stays = [0.0], [0.0]
    for (ids, visits), (export_codes, export_stay) in zip(patients, logits_of(folder, patients), strict=True):
        hidden = forward.sequence(ids, visits)
        codes.append(np.abs(export_codes - forward.masked_lm_logits(hidden)).max())
        stays.append(np.abs(export_stay - forward.stay_logits(hidden)).max())
    return max(codes), max(stays)


@pytest.fixture(scope="module", params=["med_bert", "google"])
def converted(request, tmp_path_factory):
    """A published checkpoint and its export: the kind, weights, config, prefix and folder."""
    make, config = MAKERS[request.param]
    folder = tmp_path_factory.mktemp("old")
    weights = random_weights(config)
    prefix = make(folder / "old", weights)
    export(prefix, folder / "out")
    return request.param, weights, config, prefix, folder / "out"


def test_the_export_computes_what_the_published_program_does(converted):
    kind, weights, config, _, folder = converted
    largest = differences(folder, Forward(weights, config), PATIENTS[kind])
    assert max(largest) < 2e-5


def test_the_comparison_detects_kernels_that_are_not_transposed_and_another_gelu(converted):
    kind, weights, config, _, folder = converted
    square = [
        name for name, shape in published.shapes(config).items() if len(shape) == 2 and shape[0] == shape[1]
    ]
    assert len(square) == 4 * config["num_hidden_layers"] + 2
    for name in square:
        transposed = Forward(weights | {name: weights[name].T}, config)
        assert max(differences(folder, transposed, PATIENTS[kind])) > 1e-2
    assert max(differences(folder, Forward(weights, config, gelu=erf_gelu), PATIENTS[kind])) > 1e-3


def test_the_export_records_the_settings_of_the_model(converted):
    kind, _, config, _, folder = converted
    exported = json.loads((folder / "config.json").read_text())
    assert exported["hidden_act"] == "gelu_new"
    assert exported["layer_norm_eps"] == 1e-12
    assert exported["stay_pooling"] == ("first" if kind == "med_bert" else "cls")
    assert all(exported[key] == config[key] for key in MED_BERT if key != "hidden_act")
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    first, second = published.CODES[0], published.CODES[1]
    ids = tokenizer(f"{first} | {second} {tokenizer.mask_token}")["input_ids"]
    assert ids == ([1, 2, 0] if kind == "med_bert" else [3, 6, 7, 5])


def test_converting_back_and_forth_is_bit_identical(converted, tmp_path):
    _, weights, _, _, folder = converted
    assert export_tensorflow1(folder, tmp_path / "old") == tmp_path / "old" / "bert_model.ckpt"
    reader = tf.train.load_checkpoint(str(tmp_path / "old" / "bert_model.ckpt"))
    assert set(reader.get_variable_to_shape_map()) == set(weights)
    for name, value in weights.items():
        np.testing.assert_array_equal(reader.get_tensor(name), value)
    export(tmp_path / "old" / "bert_model.ckpt", tmp_path / "new")
    for file in ("model.safetensors", "config.json", "vocab.json", "tokenizer_config.json"):
        assert (tmp_path / "new" / file).read_bytes() == (folder / file).read_bytes()


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_a_model_of_this_package_is_converted_back_unchanged(tmp_path, activation, caplog):
    model = trained_model(
        dataclasses.replace(SMALL, hidden_act=activation, stay_pooling="mean", layer_norm_eps=1e-5)
    )
    export(training_folder(tmp_path / "training", model), tmp_path / "out", min_patients=0)
    assert main(["convert", "--to-tf1", str(tmp_path / "out"), str(tmp_path / "old")]) == 0
    assert warning_keys(caplog)[-1] == "published-programs-differ"
    warning = caplog.messages[-1]
    assert ("gelu is the exact form here" in warning) == (activation == "gelu")
    assert "layer_norm_eps is 1e-05 here, 1e-12 there; the stay head reads the mean" in warning
    (tmp_path / "old" / "vocab.txt").unlink()
    back = pretrained_tensorflow1(tmp_path / "old" / "bert_model.ckpt")
    assert back.config == model.config
    assert (back.mask_id, back.cls_id) == (4, 2)
    for variable in model.weights:
        np.testing.assert_array_equal(back.weights[variable.path.partition("/")[2]], variable.numpy())


def test_tensorflow_1_restores_a_written_checkpoint(converted, tmp_path):
    _, weights, _, _, folder = converted
    export_tensorflow1(folder, tmp_path / "old")
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        variables = {name: v1.get_variable(name, value.shape) for name, value in weights.items()}
        v1.train.Saver().restore(session, str(tmp_path / "old" / "bert_model.ckpt"))
        for name, value in session.run(variables).items():
            np.testing.assert_array_equal(value, weights[name])


def test_every_weight_has_one_variable():
    names = variable_names(3)
    assert set(names) == set(parameter_names(3))
    assert set(names.values()) == set(published.shapes(GOOGLE))
    assert len(set(names.values())) == len(names)


@hypothesis.given(
    heads=st.integers(1, 3),
    width=st.integers(1, 3),
    inner=st.integers(1, 7),
    layers=st.integers(1, 2),
    tables=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
)
@hypothesis.settings(max_examples=10)
def test_a_written_checkpoint_of_any_shape_is_read(tmp_path_factory, heads, width, inner, layers, tables):
    config = ModelConfig(
        hidden_size=heads * width,
        num_attention_heads=heads,
        num_hidden_layers=layers,
        intermediate_size=inner,
        vocab_size=tables[0],
        type_vocab_size=tables[1],
        max_position_embeddings=tables[2],
    )
    variables = random_weights(config.to_dict())
    names = variable_names(layers)
    weights = {
        ours: variables[theirs].T if theirs.endswith("output_weights") else variables[theirs]
        for ours, theirs in names.items()
    }
    prefix = tmp_path_factory.mktemp("old") / "model.ckpt"
    write_tensorflow1(prefix, weights, config)
    restored = read_tensorflow1(prefix, config)
    assert restored.keys() == weights.keys()
    for name, value in weights.items():
        np.testing.assert_array_equal(restored[name], value)
        assert restored[name].dtype == np.float32


@pytest.fixture(scope="module")
def tiny():
    """A published config and weights, small enough to save many times."""
    config = {**GOOGLE, "num_hidden_layers": 1, "hidden_size": 10}
    return config, random_weights(config)


@pytest.mark.parametrize(
    "unexpected",
    [
        "output_weights",
        "bert/encoder/layer_1/output/dense/bias",
        "bert/pooler/dense/kernel/momentum",
        "step/adam_m",
    ],
)
def test_an_unexpected_variable_is_named(tmp_path, tiny, unexpected):
    config, weights = tiny
    prefix = save(tmp_path / "old", weights | {unexpected: np.zeros(3, np.float32)}, config, slots=False)
    with raises_user_error("config-mismatch", unexpected):
        pretrained_tensorflow1(prefix)


@pytest.mark.parametrize(
    "missing", ["cls/seq_relationship/output_bias", "bert/encoder/layer_0/output/LayerNorm/gamma"]
)
def test_a_missing_variable_is_named(tmp_path, tiny, missing):
    config, weights = tiny
    kept = {name: value for name, value in weights.items() if name != missing}
    with raises_user_error("config-mismatch", missing):
        pretrained_tensorflow1(save(tmp_path / "old", kept, config))


@pytest.mark.parametrize(
    ("key", "value", "mentioned"),
    [
        ("type_vocab_size", 3, ("token_type_embeddings", "[2, 10]", "[3, 10]")),
        ("vocab_size", 32, ("word_embeddings", "[31, 10]", "[32, 10]")),
        ("intermediate_size", 10, ("intermediate/dense/kernel", "[10, 60]", "[10, 10]")),
        ("num_hidden_layers", 2, ("bert/encoder/layer_1/attention/output/LayerNorm/beta",)),
    ],
)
def test_a_config_of_another_shape_is_refused(tmp_path, tiny, key, value, mentioned):
    config, weights = tiny
    with raises_user_error("config-mismatch", *mentioned):
        pretrained_tensorflow1(save(tmp_path / "old", weights, {**config, key: value}))


def test_half_precision_is_read_as_float32(tmp_path, tiny):
    config, weights = tiny
    halves = {name: value.astype(np.float16) for name, value in weights.items()}
    prefix = save(tmp_path / "old", halves, config)
    restored = read_tensorflow1(prefix, pretrained_tensorflow1(prefix).config)
    assert {value.dtype for value in restored.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(restored["stay/pooler/kernel"], halves["bert/pooler/dense/kernel"])


def test_only_published_checkpoints_are_recognised(tmp_path, tiny):
    config, weights = tiny
    assert is_tensorflow1(save(tmp_path / "old", weights, config))
    assert not is_tensorflow1(training_folder(tmp_path / "ours", trained_model()) / "model.ckpt-7")
    assert not is_tensorflow1(tmp_path / "old" / "model.ckpt-8")
    assert not is_tensorflow1(tmp_path / "old")


def test_a_missing_config_or_vocabulary_is_reported_with_its_option(tmp_path, tiny):
    config, weights = tiny
    prefix = save(tmp_path / "old", weights, config)
    with raises_user_error("missing-vocabulary", "model.ckpt-7", "--vocab_file"):
        export(prefix, tmp_path / "out")
    (tmp_path / "old" / "bert_config.json").unlink()
    with raises_user_error("missing-config", "bert_config.json or config.json", "--bert_config_file"):
        export(prefix, tmp_path / "out")


def test_two_vocabularies_next_to_a_checkpoint_are_refused(tmp_path, tiny):
    config, weights = tiny
    prefix = med_bert(tmp_path / "old", weights, config)
    (tmp_path / "old" / "other.types").write_bytes(b"")
    with raises_user_error("ambiguous-vocabulary", "cohort.types", "other.types", "--vocab_file"):
        pretrained_tensorflow1(prefix)


def test_files_in_other_folders_can_be_named(tmp_path, tiny):
    config, weights = tiny
    prefix = med_bert(tmp_path / "old", weights, config)
    for file in ("bert_config.json", "cohort.types"):
        (tmp_path / "old" / file).rename(tmp_path / file)
    export(prefix, tmp_path / "out", tmp_path / "cohort.types", config_file=tmp_path / "bert_config.json")
    assert BertForPreTraining.from_pretrained(tmp_path / "out").num_parameters() == sum(
        math.prod(value.shape) for value in weights.values()
    )


def test_an_encoder_without_heads_cannot_be_converted_back(converted, tmp_path):
    *_, folder = converted
    model = BertForPreTraining.from_pretrained(folder)
    model.bert.save_pretrained(tmp_path / "encoder")
    with raises_user_error("missing-weights", "masked_codes/bias"):
        export_tensorflow1(tmp_path / "encoder", tmp_path / "old")
    assert not (tmp_path / "old").exists()
