import pytest

from ehr_bert.model.config import ModelConfig
from tests.user_errors import raises_user_error


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


@pytest.mark.parametrize(
    ("values", "key", "mentioned"),
    [
        ({"hiden_size": 3}, "unknown-setting", "hidden_size"),
        ({"hidden_size": 10}, "indivisible-hidden-size", "num_attention_heads 6"),
        ({"hidden_act": "swish"}, "invalid-setting", "hidden_act"),
        ({"hidden_size": "192"}, "invalid-setting", "hidden_size"),
        ({"hidden_dropout_prob": 1}, "invalid-setting", "hidden_dropout_prob"),
        ({"stay_pooling": "last"}, "invalid-setting", "stay_pooling"),
    ],
)
def test_values_that_do_not_fit_are_refused(values, key, mentioned):
    with raises_user_error(key, mentioned):
        ModelConfig.from_dict(values)
