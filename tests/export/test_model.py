import dataclasses

import numpy as np
import pytest

from ehr_bert.errors import UserError
from ehr_bert.export import model as exporting
from ehr_bert.export.model import hugging_face_model
from ehr_bert.weights.names import parameter_names
from tests.export.small import trained_model
from tests.model.small import SMALL

SQUARE = dataclasses.replace(SMALL, intermediate_size=SMALL.hidden_size)


def test_every_weight_has_one_parameter_and_every_parameter_one_weight():
    model = trained_model()
    names = parameter_names(SMALL.num_hidden_layers)
    assert {variable.path.partition("/")[2] for variable in model.weights} == set(names)
    assert {name for name, _ in hugging_face_model(model).named_parameters()} == set(names.values())
    assert len(set(names.values())) == len(names)


def test_kernels_are_transposed_and_nothing_else_is():
    model = trained_model(SQUARE)
    parameters = dict(hugging_face_model(model).named_parameters())
    names = parameter_names(SQUARE.num_hidden_layers)
    for variable in model.weights:
        value = variable.value.numpy()
        expected = value.T if variable.path.endswith("kernel") else value
        found = parameters[names[variable.path.partition("/")[2]]].detach().numpy()
        np.testing.assert_array_equal(found, expected)


def test_the_output_layer_shares_the_table_and_the_bias():
    exported = hugging_face_model(trained_model())
    assert exported.cls.predictions.decoder.weight is exported.bert.embeddings.word_embeddings.weight
    assert exported.cls.predictions.decoder.bias is exported.cls.predictions.bias


def test_a_weight_that_is_not_mapped_is_named():
    model = trained_model()
    model.config = dataclasses.replace(SMALL, num_hidden_layers=1)
    with pytest.raises(UserError, match=r"the Keras model has encoder/block_1/attention/key/bias, "):
        hugging_face_model(model)


def test_a_weight_that_is_mapped_and_missing_is_named():
    model = trained_model()
    model.config = dataclasses.replace(SMALL, num_hidden_layers=3)
    with pytest.raises(UserError, match=r"the Keras model lacks encoder/block_2/attention/key/bias, "):
        hugging_face_model(model)


def test_a_parameter_that_is_not_mapped_is_named(monkeypatch):
    names = parameter_names(SMALL.num_hidden_layers) | {"stay/pooler/bias": "bert.pooler.bias"}
    monkeypatch.setattr(exporting, "parameter_names", lambda _: names)
    with pytest.raises(UserError, match=r"BertForPreTraining has bert\.pooler\.dense\.bias, which"):
        hugging_face_model(trained_model())


def test_weights_of_another_shape_than_the_config_are_refused():
    model = trained_model()
    model.config = dataclasses.replace(SMALL, intermediate_size=9)
    with pytest.raises(UserError, match=r"block_0/inner/kernel is \[5, 12\], .* is \[9, 12\]"):
        hugging_face_model(model)
