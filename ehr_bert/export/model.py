"""Conversion of the Keras model to `BertForPreTraining`."""

import dataclasses

import numpy as np
import torch
from transformers import BertConfig, BertForPreTraining

from ehr_bert.errors import UserError
from ehr_bert.model.config import ModelConfig
from ehr_bert.model.pretraining import PretrainingModel
from ehr_bert.weights.names import is_additional_head, is_kernel_transposed, parameter_names

BY_TOKEN = ("encoder/embeddings/tokens/embeddings", "masked_codes/bias")
"""Weights with one row per token."""


def hugging_face_config(config: ModelConfig) -> BertConfig:
    """Return the config of the stock model. It includes `stay_pooling`, which stock programs ignore."""
    return BertConfig(**config.to_dict(), architectures=["BertForPreTraining"], tie_word_embeddings=True)


def hugging_face_model(model: PretrainingModel, rows: np.ndarray | None = None) -> BertForPreTraining:
    """Return a stock model with the weights of `model`, in float32 and with dropout off.

    Args:
        model: The Keras model.
        rows: Ids of the tokens to keep, in the order of their new ids, int `[V]`. None keeps all.

    Raises:
        UserError: Weights and parameters do not match one to one (key `unmapped-weights`), or their shapes
            differ (`shape-mismatch`).
    """
    weights, config = _weights(model), model.config
    if rows is not None:
        weights |= {name: weights[name][rows] for name in BY_TOKEN}
        config = dataclasses.replace(config, vocab_size=len(rows))
    names = parameter_names(config.num_hidden_layers)
    exported = BertForPreTraining(hugging_face_config(config)).eval()
    parameters = dict(exported.named_parameters())
    _check_one_to_one("the Keras model", set(weights), set(names))
    _check_one_to_one("BertForPreTraining", set(parameters), set(names.values()))
    with torch.no_grad():
        for name, value in weights.items():
            parameter = parameters[names[name]]
            if parameter.shape != value.shape:
                raise UserError(
                    "shape-mismatch",
                    f"{name} has the shape {list(value.shape)}, but {names[name]} has "
                    f"{list(parameter.shape)}. The checkpoint does not match the model config.",
                )
            parameter.copy_(torch.from_numpy(value))
    return exported


def _weights(model: PretrainingModel) -> dict[str, np.ndarray]:
    """Return the weights of the stock model by name, in the layout of PyTorch."""
    weights = {}
    for variable in model.weights:
        name = variable.path.partition("/")[2]
        if is_additional_head(name):
            continue
        value = variable.value.numpy().astype(np.float32)
        weights[name] = value.T.copy() if is_kernel_transposed(name) else value
    return weights


def _check_one_to_one(side: str, names: set[str], mapped: set[str]) -> None:
    """Raise an error unless all weights are mapped and all mapped weights exist."""
    for problem, unmatched in (
        ("has weights without an entry", names - mapped),
        ("has no weights for entries", mapped - names),
    ):
        if unmatched:
            raise UserError(
                "unmapped-weights",
                f"{side} {problem} in ehr_bert/weights/names.py: {', '.join(sorted(unmatched))}.",
            )
