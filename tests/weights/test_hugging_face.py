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

from ehr_bert.errors import UserError
from ehr_bert.export.folder import export
from ehr_bert.weights.hugging_face import is_hugging_face, read_hugging_face
from ehr_bert.weights.names import is_kernel_transposed, parameter_names
from tests.export.small import VOCABULARY, trained_model, training_folder
from tests.model.small import SMALL

# As wide inside as outside: a kernel that isn't turned passes every check of shapes.
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


def expected(cls=BertForPreTraining) -> dict[str, np.ndarray]:
    """Its weights under our names, straight from the model."""
    parameters = dict(random_model(cls).named_parameters())
    found = {}
    for ours, theirs in parameter_names(CONFIG.num_hidden_layers).items():
        bare = theirs.removeprefix("bert.")
        name = theirs if theirs in parameters else bare
        if name in parameters:
            value = parameters[name].detach().numpy()
            found[ours] = value.T if is_kernel_transposed(ours) else value
    return found


def assert_same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
        assert found[name].dtype == np.float32


@pytest.mark.parametrize("cls", [BertForPreTraining, BertForMaskedLM, BertModel])
def test_every_stock_class_is_read_and_the_heads_that_it_lacks_are_told(tmp_path, cls):
    found = read_hugging_face(saved(tmp_path, cls))
    assert_same(found.weights, expected(cls))
    lacking = HEADS[cls.__name__]
    assert all(any(name.startswith(head) for name in found.missing) for head in lacking)
    assert all(name.startswith(("stay/pooler", *lacking)) for name in found.missing) or not lacking
    assert (found.config.hidden_size, found.config.type_vocab_size) == (6, 2)
    assert (found.vocabulary, found.mask_id, found.left_out) == (None, None, ())


def test_files_in_parts_pickled_files_and_half_precision_are_read(tmp_path):
    parts = saved(tmp_path / "parts", max_shard_size="2KB")
    assert len(list(parts.glob("*.safetensors"))) > 1
    assert_same(read_hugging_face(parts).weights, expected())
    pickled = saved(tmp_path / "pickled")
    (pickled / "model.safetensors").unlink()
    assert not is_hugging_face(pickled)
    torch.save(random_model().state_dict(), pickled / "pytorch_model.bin")
    assert is_hugging_face(pickled)
    assert_same(read_hugging_face(pickled).weights, expected())
    random_model().to(torch.bfloat16).save_pretrained(tmp_path / "half")
    half = {name: torch.tensor(value).bfloat16().float().numpy() for name, value in expected().items()}
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
    assert_same(read_hugging_face(tmp_path).weights, expected())


def test_another_head_is_left_out_and_told(tmp_path):
    found = read_hugging_face(saved(tmp_path, BertForSequenceClassification))
    assert found.left_out == ("classifier.bias", "classifier.weight")
    assert "masked_codes/bias" in found.missing
    assert "stay/pooler/kernel" in found.weights


def with_config(folder: Path, **changes) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "roberta"}, "model of type roberta: take one of type bert"),
        ({"position_embedding_type": "relative_key"}, "has relative_key positions"),
        ({"hidden_act": "silu"}, 'config.json: hidden_act must be one of .*, not "silu"'),
        (
            {"num_hidden_layers": 1},
            r"holds bert\.encoder\.layer\.1\..* and 13 more, which no BERT of 1 layers",
        ),
        ({"num_hidden_layers": 3}, r"lacks bert\.encoder\.layer\.2\.attention"),
    ],
)
def test_a_model_that_computes_something_else_is_refused(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        read_hugging_face(with_config(saved(tmp_path), **changes))


def test_the_config_of_an_export_says_all(tmp_path):
    folder = with_config(
        saved(tmp_path), hidden_act="gelu_pytorch_tanh", pad_token_id=None, stay_pooling="sum"
    )
    config = read_hugging_face(folder).config
    assert (config.hidden_act, config.pad_token_id, config.stay_pooling) == ("gelu_new", 0, "sum")


def test_an_output_table_of_its_own_is_refused(tmp_path):
    model = random_model()
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    tensors["cls.predictions.decoder.weight"][3, 1] += 1
    saved(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"decoder\.weight differs from bert\.embeddings\.word_embeddings"):
        read_hugging_face(tmp_path)


def test_damaged_files_are_told(tmp_path):
    folder = saved(tmp_path)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"model\.safetensors can't be read: "):
        read_hugging_face(folder)
    file.unlink()
    with pytest.raises(UserError, match="holds neither"):
        read_hugging_face(folder)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weights": shutil.rmtree}))
    with pytest.raises(UserError, match=r"pytorch_model\.bin can't be read: "):
        read_hugging_face(folder)


TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]


def test_stock_vocabularies_are_read(tmp_path):
    (saved(tmp_path / "txt") / "vocab.txt").write_text("\n".join(TOKENS) + "\n")
    found = read_hugging_face(tmp_path / "txt")
    assert found.vocabulary.tokens == tuple(TOKENS)
    assert (found.mask_id, found.cls_id) == (4, 2)
    tokenizer = BertTokenizer(str(tmp_path / "txt" / "vocab.txt"))
    tokenizer.save_pretrained(saved(tmp_path / "fast"))
    assert (tmp_path / "fast" / "tokenizer.json").exists()
    found = read_hugging_face(tmp_path / "fast")
    assert found.vocabulary.tokens == tuple(TOKENS)
    assert (found.mask_id, found.cls_id) == (4, 2)


@pytest.mark.parametrize(("mask_id", "cls_id"), [(4, 2), (0, None)])
def test_an_export_is_read_with_all_that_its_ids_mean(tmp_path, mask_id, cls_id):
    model = trained_model(SMALL)
    training = training_folder(tmp_path / "training", model, mask_id=mask_id, cls_id=cls_id)
    export(training, tmp_path / "out")
    found = read_hugging_face(tmp_path / "out")
    assert_same(found.weights, {each.path.partition("/")[2]: each.numpy() for each in model.weights})
    assert found.config == SMALL
    assert found.vocabulary.tokens == VOCABULARY.tokens
    assert (found.mask_id, found.cls_id) == (mask_id, cls_id)
