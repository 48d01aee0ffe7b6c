# Covers: ehr_bert.weights.names, ehr_bert.weights.pretrained
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertForSequenceClassification,
    BertModel,
    BertTokenizer,
)

from ehr_bert.export.folder import export
from ehr_bert.weights.hugging_face import is_hugging_face, read_hugging_face
from ehr_bert.weights.names import is_kernel_transposed, parameter_names
from tests.export.small import VOCABULARY, trained_model, training_folder
from tests.model.small import SMALL
from tests.user_errors import raises_user_error

# The hidden and intermediate sizes are equal, so shapes do not reveal a kernel that is not transposed.
CONFIG = BertConfig(
    vocab_size=13,
    hidden_size=6,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=6,
    max_position_embeddings=11,
)
HEADS = {
    "BertForPreTraining": [],
    "BertForMaskedLM": ["stay/"],
    "BertModel": ["masked_codes", "stay/relationship"],
}


def random_model(cls=BertForPreTraining, config=CONFIG):
    torch.manual_seed(3)
    model = cls(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model


def saved(folder: Path, cls=BertForPreTraining, **how) -> Path:
    random_model(cls).save_pretrained(folder, **how)
    return folder


def expected_weights(cls=BertForPreTraining) -> dict[str, np.ndarray]:
    """Return the weights of the model by their Keras names."""
    parameters = dict(random_model(cls).named_parameters())
    weights = {}
    for ours, theirs in parameter_names(CONFIG.num_hidden_layers).items():
        bare = theirs.removeprefix("bert.")
        name = theirs if theirs in parameters else bare
        if name in parameters:
            value = parameters[name].detach().numpy()
            weights[ours] = value.T if is_kernel_transposed(ours) else value
    return weights


def assert_same(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value, err_msg=name)
        assert actual[name].dtype == np.float32


@pytest.mark.parametrize("cls", [BertForPreTraining, BertForMaskedLM, BertModel])
def test_every_stock_class_is_read_and_its_missing_heads_are_listed(tmp_path, cls):
    pretrained = read_hugging_face(saved(tmp_path, cls))
    assert_same(pretrained.weights, expected_weights(cls))
    missing = HEADS[cls.__name__]
    assert all(any(name.startswith(head) for name in pretrained.missing) for head in missing)
    assert all(name.startswith(("stay/pooler", *missing)) for name in pretrained.missing) or not missing
    assert (pretrained.config.hidden_size, pretrained.config.type_vocab_size) == (6, 2)
    assert (pretrained.vocabulary, pretrained.mask_id, pretrained.left_out) == (None, None, ())


def test_sharded_pickled_and_half_precision_files_are_read(tmp_path):
    parts = saved(tmp_path / "parts", max_shard_size="2KB")
    assert len(list(parts.glob("*.safetensors"))) > 1
    assert_same(read_hugging_face(parts).weights, expected_weights())
    pickled = saved(tmp_path / "pickled")
    (pickled / "model.safetensors").unlink()
    assert not is_hugging_face(pickled)
    torch.save(random_model().state_dict(), pickled / "pytorch_model.bin")
    assert is_hugging_face(pickled)
    assert_same(read_hugging_face(pickled).weights, expected_weights())
    random_model().to(torch.bfloat16).save_pretrained(tmp_path / "half")
    half = {
        name: torch.tensor(value).bfloat16().float().numpy() for name, value in expected_weights().items()
    }
    assert_same(read_hugging_face(tmp_path / "half").weights, half)


def test_names_of_older_programs_are_read(tmp_path):
    older = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in random_model().state_dict().items()
    }
    older["bert.embeddings.position_ids"] = torch.arange(11)[None]
    saved(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(older, tmp_path / "pytorch_model.bin")
    assert_same(read_hugging_face(tmp_path).weights, expected_weights())


def test_another_head_is_left_out_and_listed(tmp_path):
    pretrained = read_hugging_face(saved(tmp_path, BertForSequenceClassification))
    assert pretrained.left_out == ("classifier.bias", "classifier.weight")
    assert "masked_codes/bias" in pretrained.missing
    assert "stay/pooler/kernel" in pretrained.weights


def with_config(folder: Path, **changes) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return folder


@pytest.mark.parametrize(
    ("changes", "key", "mentioned"),
    [
        ({"model_type": "roberta"}, "unsupported-model", ("roberta",)),
        ({"position_embedding_type": "relative_key"}, "unsupported-model", ("relative_key",)),
        ({"hidden_act": "silu"}, "invalid-setting", ("config.json", "silu")),
        ({"num_hidden_layers": 1}, "unsupported-model", ("bert.encoder.layer.1.", "13 more", "1 layers")),
        ({"num_hidden_layers": 3}, "missing-weights", ("bert.encoder.layer.2.attention",)),
    ],
)
def test_an_unsupported_model_is_refused(tmp_path, changes, key, mentioned):
    with raises_user_error(key, *mentioned):
        read_hugging_face(with_config(saved(tmp_path), **changes))


def test_the_config_of_an_export_is_read(tmp_path):
    folder = with_config(
        saved(tmp_path), hidden_act="gelu_pytorch_tanh", pad_token_id=None, stay_pooling="sum"
    )
    config = read_hugging_face(folder).config
    assert (config.hidden_act, config.pad_token_id, config.stay_pooling) == ("gelu_new", 0, "sum")


def test_an_untied_output_table_is_refused(tmp_path):
    model = random_model()
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    tensors["cls.predictions.decoder.weight"][3, 1] += 1
    saved(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    with raises_user_error("untied-embeddings", "decoder.weight"):
        read_hugging_face(tmp_path)


def test_damaged_files_are_refused(tmp_path):
    folder = saved(tmp_path)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    with raises_user_error("unreadable-weights", file):
        read_hugging_face(folder)
    file.unlink()
    with raises_user_error("missing-weights", folder):
        read_hugging_face(folder)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weights": shutil.rmtree}))
    with raises_user_error("unreadable-weights", "pytorch_model.bin"):
        read_hugging_face(folder)


TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]


def test_stock_vocabularies_are_read(tmp_path):
    (saved(tmp_path / "txt") / "vocab.txt").write_text("\n".join(TOKENS) + "\n")
    pretrained = read_hugging_face(tmp_path / "txt")
    assert pretrained.vocabulary.tokens == tuple(TOKENS)
    assert (pretrained.mask_id, pretrained.cls_id) == (4, 2)
    tokenizer = BertTokenizer(str(tmp_path / "txt" / "vocab.txt"))
    tokenizer.save_pretrained(saved(tmp_path / "fast"))
    assert (tmp_path / "fast" / "tokenizer.json").exists()
    pretrained = read_hugging_face(tmp_path / "fast")
    assert pretrained.vocabulary.tokens == tuple(TOKENS)
    assert (pretrained.mask_id, pretrained.cls_id) == (4, 2)


@pytest.mark.parametrize(("mask_id", "cls_id"), [(4, 2), (0, None)])
def test_an_export_is_read_with_the_meaning_of_its_ids(tmp_path, mask_id, cls_id):
    model = trained_model(SMALL)
    training = training_folder(tmp_path / "training", model, mask_id=mask_id, cls_id=cls_id)
    export(training, tmp_path / "out")
    pretrained = read_hugging_face(tmp_path / "out")
    assert_same(
        pretrained.weights, {weight.path.partition("/")[2]: weight.numpy() for weight in model.weights}
    )
    assert pretrained.config == SMALL
    assert pretrained.vocabulary.tokens == VOCABULARY.tokens
    assert (pretrained.mask_id, pretrained.cls_id) == (mask_id, cls_id)
