import dataclasses

import numpy as np

from ehr_bert.export import model as exporting
from ehr_bert.export.model import hugging_face_model
from ehr_bert.weights.names import parameter_names
from tests.export.small import trained_model
from tests.model.small import SMALL
from tests.user_errors import raises_user_error

SQUARE = dataclasses.replace(SMALL, intermediate_size=SMALL.hidden_size)


def test_weights_and_parameters_match_one_to_one():
    model = trained_model()
    names = parameter_names(SMALL.num_hidden_layers)
    assert {variable.path.partition("/")[2] for variable in model.weights} == set(names)
    assert {name for name, _ in hugging_face_model(model).named_parameters()} == set(names.values())
    assert len(set(names.values())) == len(names)


def test_only_kernels_are_transposed():
    model = trained_model(SQUARE)
    parameters = dict(hugging_face_model(model).named_parameters())
    names = parameter_names(SQUARE.num_hidden_layers)
    for variable in model.weights:
        value = variable.value.numpy()
        expected = value.T if variable.path.endswith("kernel") else value
        parameter = parameters[names[variable.path.partition("/")[2]]].detach().numpy()
        np.testing.assert_array_equal(parameter, expected)


def test_the_output_layer_shares_the_table_and_the_bias():
    exported = hugging_face_model(trained_model())
    assert exported.cls.predictions.decoder.weight is exported.bert.embeddings.word_embeddings.weight
    assert exported.cls.predictions.decoder.bias is exported.cls.predictions.bias


def test_a_weight_that_is_not_mapped_is_named():
    model = trained_model()
    model.config = dataclasses.replace(SMALL, num_hidden_layers=1)
    with raises_user_error("unmapped-weights", "without an entry", "encoder/block_1/attention/key/bias, "):
        hugging_face_model(model)


def test_a_weight_that_is_mapped_and_missing_is_named():
    model = trained_model()
    model.config = dataclasses.replace(SMALL, num_hidden_layers=3)
    with raises_user_error("unmapped-weights", "no weights", "encoder/block_2/attention/key/bias, "):
        hugging_face_model(model)


def test_a_parameter_that_is_not_mapped_is_named(monkeypatch):
    names = parameter_names(SMALL.num_hidden_layers) | {"stay/pooler/bias": "bert.pooler.bias"}
    monkeypatch.setattr(exporting, "parameter_names", lambda _: names)
    with raises_user_error("unmapped-weights", "BertForPreTraining has", "bert.pooler.dense.bias"):
        hugging_face_model(trained_model())


def test_weights_of_another_shape_than_the_config_are_refused():
    model = trained_model()
    model.config = dataclasses.replace(SMALL, intermediate_size=9)
    with raises_user_error("shape-mismatch", "block_0/inner/kernel", "[5, 12]", "[9, 12]"):
        hugging_face_model(model)
