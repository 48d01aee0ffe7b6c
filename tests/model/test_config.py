import pytest

from ehr_bert.errors import UserError
from ehr_bert.model.config import ModelConfig


def test_the_defaults_are_med_bert_s_shape():
    config = ModelConfig()
    assert (
        config.hidden_size,
        config.num_hidden_layers,
        config.num_attention_heads,
    ) == (192, 6, 6)
    assert (
        config.intermediate_size,
        config.max_position_embeddings,
        config.type_vocab_size,
    ) == (
        64,
        512,
        1000,
    )


def test_a_config_survives_its_dict():
    config = ModelConfig(vocab_size=7, stay_pooling="mean")
    assert ModelConfig.from_dict(config.to_dict()) == config


def test_an_unknown_key_is_refused_with_the_near_one():
    with pytest.raises(UserError, match=r"'hiden_size'.*did you mean hidden_size\?"):
        ModelConfig.from_dict({"hiden_size": 3})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"hidden_size": 10},
            "hidden_size 10 is not a multiple of num_attention_heads 6",
        ),
        (
            {"hidden_act": "swish"},
            'hidden_act must be one of "gelu", "gelu_new", "relu", not "swish"',
        ),
        (
            {"hidden_size": "192"},
            'hidden_size must be a whole number, 1 or more, not "192"',
        ),
        (
            {"hidden_dropout_prob": 1},
            "hidden_dropout_prob must be a number, from 0 to below 1, not 1",
        ),
        ({"stay_pooling": "last"}, 'stay_pooling must be one of .*, not "last"'),
    ],
)
def test_values_that_do_not_fit_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        ModelConfig.from_dict(values)
