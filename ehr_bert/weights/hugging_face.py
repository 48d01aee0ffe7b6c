"""Hugging Face folders of BERT: this project's exports, and those of any other program."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from ehr_bert.errors import UserError
from ehr_bert.files import read_json
from ehr_bert.model.config import ModelConfig
from ehr_bert.schemas import SpecialToken
from ehr_bert.vocabulary import Vocabulary
from ehr_bert.weights.names import is_kernel_transposed, parameter_names
from ehr_bert.weights.pretrained import Pretrained, shown

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""Where the weights are, whole, or in parts that `<name>.index.json` names."""

STOCK = ModelConfig(
    vocab_size=30522,
    hidden_size=768,
    num_hidden_layers=12,
    num_attention_heads=12,
    intermediate_size=3072,
    type_vocab_size=2,
)
"""What a config of BERT means where it leaves a key out."""

ACTIVATION_ALIASES = {"gelu_pytorch_tanh": "gelu_new", "gelu_fast": "gelu_new"}
"""Other names of activations."""

SHARED = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
"""Parameters that share another's storage: files may hold either, or both."""

NO_WEIGHTS = ("bert.embeddings.position_ids", "bert.embeddings.token_type_ids")
"""Constants that older programs stored."""

_OLDER_LEAVES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


def is_hugging_face(path: Path) -> bool:
    """Whether `path` is a folder with weights in Hugging Face's files."""
    return any((path / f"{name}{index}").exists() for name in WEIGHT_FILES for index in ("", ".index.json"))


def read_hugging_face(folder: Path) -> Pretrained:
    """Reads `BertForPreTraining`, `BertForMaskedLM`, `BertModel`, or BERT under another head.

    Args:
        folder: With `config.json`, `model.safetensors` or `pytorch_model.bin`, and a vocabulary if there is
            one: `vocab.json` of this project's exports, `vocab.txt` or `tokenizer.json` of others.

    Raises:
        UserError: a file is missing or damaged, or the model computes what no BERT of this project does.
    """
    config = _config(folder)
    found = _by_stock_names(_tensors(folder))
    for name, other in SHARED.items():
        value = found.pop(name, None)
        if value is not None and not np.array_equal(found.setdefault(other, value), value):
            raise UserError(f"{folder}: {name} differs from {other}, and this model has one table for both")
    names = {theirs: ours for ours, theirs in parameter_names(config.num_hidden_layers).items()}
    weights = {
        names[name]: value.T.copy() if is_kernel_transposed(names[name]) else value
        for name, value in found.items()
        if name in names
    }
    left_out = sorted(set(found) - set(names) - set(NO_WEIGHTS))
    if odd := [name for name in left_out if name.startswith("bert.")]:
        layers = config.num_hidden_layers
        raise UserError(f"{folder} holds {shown(odd)}, which no BERT of {layers} layers has: take another")
    encoder = {theirs for theirs, ours in names.items() if ours.startswith("encoder/")}
    if lost := sorted(encoder - set(found)):
        raise UserError(f"{folder} lacks {shown(lost)}: take a folder that `save_pretrained` wrote whole")
    vocabulary = _vocabulary(folder)
    mask_id, cls_id = _special_ids(folder, vocabulary)
    return Pretrained(config, weights, folder, vocabulary, mask_id, cls_id, tuple(left_out))


def _config(folder: Path) -> ModelConfig:
    values = read_json(folder / "config.json")
    if (kind := values.get("model_type", "bert")) != "bert":
        raise UserError(f"{folder} holds a model of type {kind}: take one of type bert")
    if (positions := values.get("position_embedding_type", "absolute")) != "absolute":
        raise UserError(f"{folder} has {positions} positions: take a BERT with absolute ones")
    stock = STOCK.to_dict()
    shape = stock | {key: values[key] for key in stock if values.get(key) is not None}
    shape["hidden_act"] = ACTIVATION_ALIASES.get(shape["hidden_act"], shape["hidden_act"])
    try:
        return ModelConfig.from_dict(shape)
    except UserError as error:
        raise UserError(f"{folder / 'config.json'}: {error}") from None


def _tensors(folder: Path) -> dict[str, np.ndarray]:
    """All tensors of a folder, in float32."""
    for name, load in zip(WEIGHT_FILES, (load_file, _load_pickled), strict=True):
        index = folder / f"{name}.index.json"
        if (folder / name).exists():
            files = [folder / name]
        elif index.exists():
            files = sorted({folder / part for part in read_json(index)["weight_map"].values()})
        else:
            continue
        found: dict[str, np.ndarray] = {}
        for file in files:
            try:
                found |= load(file)
            except Exception as error:  # each library and format has errors of its own
                reason = str(error).splitlines()[0]
                raise UserError(f"{file} can't be read: {reason} (copy it again, or take another)") from error
        return {name: value.astype(np.float32) for name, value in found.items()}
    raise UserError(
        f"{folder} holds neither {' nor '.join(WEIGHT_FILES)}: take a folder of `save_pretrained`"
    )


def _load_pickled(file: Path) -> dict[str, np.ndarray]:
    """The tensors of a pickle, which may name nothing but tensors and plain values."""
    import torch

    loaded = torch.load(file, map_location="cpu", weights_only=True)
    return {name: tensor.float().numpy() for name, tensor in loaded.items()}


def _by_stock_names(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors under the names that they have in `BertForPreTraining` of today."""
    bare = not any(name.startswith("bert.") for name in tensors)
    found = {}
    for name, value in tensors.items():
        for older, newer in _OLDER_LEAVES.items():
            if name.endswith(older):
                name = name.removesuffix(older) + newer
        found[f"bert.{name}" if bare and not name.startswith("cls.") else name] = value
    return found


def _vocabulary(folder: Path) -> Vocabulary | None:
    if (file := folder / "vocab.txt").exists():
        return Vocabulary.read(file)
    for name, read in (("vocab.json", read_json), ("tokenizer.json", _fast_tokenizer)):
        file = folder / name
        if file.exists() and (ids := read(file)):
            try:
                return Vocabulary.from_types(ids)
            except UserError as error:
                raise UserError(f"{file}: {error}") from None
    return None


def _fast_tokenizer(file: Path) -> dict[str, int] | None:
    """The tokens of a `tokenizer.json`; None where it holds none, as in this project's exports."""
    values = json.loads(file.read_text(encoding="utf-8"))
    ids = values.get("model", {}).get("vocab")
    if not isinstance(ids, dict):
        return None
    return ids | {token["content"]: token["id"] for token in values.get("added_tokens", ())}


def _special_ids(folder: Path, vocabulary: Vocabulary | None) -> tuple[int | None, int | None]:
    """The ids that hide a code, and lead a patient, as far as they are known."""
    if vocabulary is None:
        return None, None
    file = folder / "tokenizer_config.json"
    told = read_json(file) if file.exists() else {}

    def id_of(key: str, usual: SpecialToken) -> int | None:
        token = told.get(key, usual.value)
        token = token["content"] if isinstance(token, dict) else token
        return None if token is None else vocabulary.ids.get(token)

    return id_of("mask_token", SpecialToken.MASK), id_of("cls_token", SpecialToken.CLS)
