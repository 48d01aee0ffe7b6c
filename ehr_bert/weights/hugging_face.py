"""Hugging Face folders of BERT: exports of this project and folders of other programs."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from ehr_bert.errors import UserError
from ehr_bert.files import read_json
from ehr_bert.model.config import ModelConfig
from ehr_bert.schemas import SpecialToken
from ehr_bert.vocabulary import Vocabulary
from ehr_bert.weights.names import is_kernel_transposed, parameter_names
from ehr_bert.weights.pretrained import Pretrained, list_names

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""Files with the weights, or prefixes of `<name>.index.json`, which lists the files of a sharded model."""

HEADS_FILE = "heads.safetensors"
"""Weights of heads that stock BERT does not have, under their Keras names, as Keras lays them out."""

STOCK = ModelConfig(
    vocab_size=30522,
    hidden_size=768,
    num_hidden_layers=12,
    num_attention_heads=12,
    intermediate_size=3072,
    type_vocab_size=2,
)
"""Values of keys that the config of a BERT model omits."""

ACTIVATION_ALIASES = {"gelu_pytorch_tanh": "gelu_new", "gelu_fast": "gelu_new"}
"""Other names of activations."""

SHARED = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
"""Parameters that share storage with another one. Files may contain either name, or both."""

NOT_WEIGHTS = ("bert.embeddings.position_ids", "bert.embeddings.token_type_ids")
"""Constants that older programs stored with the weights."""

_OLDER_LEAVES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


def is_hugging_face(path: Path) -> bool:
    """Return whether `path` is a folder with Hugging Face weight files."""
    return any((path / f"{name}{index}").exists() for name in WEIGHT_FILES for index in ("", ".index.json"))


def read_hugging_face(folder: Path) -> Pretrained:
    """Read `BertForPreTraining`, `BertForMaskedLM`, `BertModel`, or BERT with another head.

    Args:
        folder: Folder with `config.json`, `model.safetensors` or `pytorch_model.bin`, and optionally a
            vocabulary: `vocab.json` in exports of this project, `vocab.txt` or `tokenizer.json` in others.

    Raises:
        UserError: A file is missing or damaged (keys `missing-weights`, `unreadable-weights`), or the model
            computes something that the BERT of this project does not (`unsupported-model`,
            `untied-embeddings`).
    """
    config = _config(folder)
    tensors = _by_stock_names(_tensors(folder))
    for name, other in SHARED.items():
        value = tensors.pop(name, None)
        if value is not None and not np.array_equal(tensors.setdefault(other, value), value):
            raise UserError(
                "untied-embeddings",
                f"{folder}: {name} differs from {other}, but models of this project use one table for both. "
                "Use a model with tied embeddings.",
            )
    names = {parameter: name for name, parameter in parameter_names(config.num_hidden_layers).items()}
    weights = {
        names[name]: value.T.copy() if is_kernel_transposed(names[name]) else value
        for name, value in tensors.items()
        if name in names
    }
    unused = sorted(set(tensors) - set(names) - set(NOT_WEIGHTS))
    if unexpected := [name for name in unused if name.startswith("bert.")]:
        layers = config.num_hidden_layers
        raise UserError(
            "unsupported-model",
            f"{folder} has {list_names(unexpected)}, which a BERT of {layers} layers does not have. "
            "Use another model.",
        )
    encoder = {parameter for parameter, name in names.items() if name.startswith("encoder/")}
    if missing := sorted(encoder - set(tensors)):
        raise UserError(
            "missing-weights",
            f"{list_names(missing)} is missing from {folder}. Use a complete folder of `save_pretrained`.",
        )
    vocabulary = _vocabulary(folder)
    mask_id, cls_id = _special_ids(folder, vocabulary)
    file = folder / HEADS_FILE
    heads = _loaded(file, load_file) if file.exists() else {}
    return Pretrained(config, weights, folder, vocabulary, mask_id, cls_id, tuple(unused), heads)


def _config(folder: Path) -> ModelConfig:
    values = read_json(folder / "config.json")
    if (model_type := values.get("model_type", "bert")) != "bert":
        raise UserError(
            "unsupported-model", f"{folder} has a model of type {model_type}. Use a model of type bert."
        )
    if (positions := values.get("position_embedding_type", "absolute")) != "absolute":
        raise UserError(
            "unsupported-model", f"{folder} has {positions} positions. Use a BERT with absolute positions."
        )
    stock = STOCK.to_dict()
    shape = stock | {key: values[key] for key in stock if values.get(key) is not None}
    shape["hidden_act"] = ACTIVATION_ALIASES.get(shape["hidden_act"], shape["hidden_act"])
    try:
        return ModelConfig.from_dict(shape)
    except UserError as error:
        raise error.prefixed(f"{folder / 'config.json'}: ") from None


def _tensors(folder: Path) -> dict[str, np.ndarray]:
    """Return all tensors of a folder, in float32."""
    for name, load in zip(WEIGHT_FILES, (load_file, _load_pickled), strict=True):
        index = folder / f"{name}.index.json"
        if (folder / name).exists():
            files = [folder / name]
        elif index.exists():
            files = sorted({folder / part for part in read_json(index)["weight_map"].values()})
        else:
            continue
        tensors: dict[str, np.ndarray] = {}
        for file in files:
            tensors |= _loaded(file, load)
        return {name: value.astype(np.float32) for name, value in tensors.items()}
    raise UserError(
        "missing-weights",
        f"{folder} has neither {' nor '.join(WEIGHT_FILES)}. Use a folder of `save_pretrained`.",
    )


def _loaded(file: Path, load: Callable[[Path], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the tensors of one file."""
    try:
        return load(file)
    except Exception as error:  # Each library and format has different errors.
        reason = str(error).splitlines()[0]
        raise UserError(
            "unreadable-weights", f"{file} cannot be read: {reason}. Copy it again, or choose another folder."
        ) from error


def _load_pickled(file: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a pickle, which may contain only tensors and plain values."""
    import torch

    loaded = torch.load(file, map_location="cpu", weights_only=True)
    return {name: tensor.float().numpy() for name, tensor in loaded.items()}


def _by_stock_names(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the tensors by their names in the current `BertForPreTraining`."""
    has_no_prefix = not any(name.startswith("bert.") for name in tensors)
    renamed = {}
    for name, value in tensors.items():
        for older, newer in _OLDER_LEAVES.items():
            if name.endswith(older):
                name = name.removesuffix(older) + newer
        renamed[f"bert.{name}" if has_no_prefix and not name.startswith("cls.") else name] = value
    return renamed


def _vocabulary(folder: Path) -> Vocabulary | None:
    if (file := folder / "vocab.txt").exists():
        return Vocabulary.read(file)
    for name, read in (("vocab.json", read_json), ("tokenizer.json", _fast_tokenizer)):
        file = folder / name
        if file.exists() and (ids := read(file)):
            try:
                return Vocabulary.from_types(ids)
            except UserError as error:
                raise error.prefixed(f"{file}: ") from None
    return None


def _fast_tokenizer(file: Path) -> dict[str, int] | None:
    """Return the tokens of a `tokenizer.json`. None if it has none, as in exports of this project."""
    values = json.loads(file.read_text(encoding="utf-8"))
    ids = values.get("model", {}).get("vocab")
    if not isinstance(ids, dict):
        return None
    return ids | {token["content"]: token["id"] for token in values.get("added_tokens", ())}


def _special_ids(folder: Path, vocabulary: Vocabulary | None) -> tuple[int | None, int | None]:
    """Return the id of masked codes and the id at the start of each patient, if they are known."""
    if vocabulary is None:
        return None, None
    file = folder / "tokenizer_config.json"
    tokenizer = read_json(file) if file.exists() else {}

    def id_of(key: str, default: SpecialToken) -> int | None:
        token = tokenizer.get(key, default.value)
        token = token["content"] if isinstance(token, dict) else token
        return None if token is None else vocabulary.ids.get(token)

    return id_of("mask_token", SpecialToken.MASK), id_of("cls_token", SpecialToken.CLS)
