"""The Keras model as `BertForPreTraining`."""

import dataclasses

import numpy as np
import torch
from transformers import BertConfig, BertForPreTraining

from ehr_bert.errors import UserError
from ehr_bert.model.config import ModelConfig
from ehr_bert.model.pretraining import PretrainingModel
from ehr_bert.weights.names import is_further_head, is_kernel_transposed, parameter_names

BY_TOKEN = ("encoder/embeddings/tokens/embeddings", "masked_codes/bias")
"""The weights with a row for each token."""


def hugging_face_config(config: ModelConfig) -> BertConfig:
    """The config of the stock model; it keeps our `stay_pooling` as a key that stock programs pass over."""
    return BertConfig(**config.to_dict(), architectures=["BertForPreTraining"], tie_word_embeddings=True)


def hugging_face_model(model: PretrainingModel, rows: np.ndarray | None = None) -> BertForPreTraining:
    """A stock model with the weights of `model`, in float32, with dropout off.

    Args:
        model: The Keras model.
        rows: The tokens that are kept, by their ids in `model`, in the order of their new ids: int [V'].
            All if None.

    Raises:
        UserError: a weight has no parameter, a parameter no weight, or their shapes differ.
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
                    f"{name} is {list(value.shape)}, {names[name]} is {list(parameter.shape)}: "
                    "the checkpoint and the model config don't belong together"
                )
            parameter.copy_(torch.from_numpy(value))
    return exported


def _weights(model: PretrainingModel) -> dict[str, np.ndarray]:
    """Return the weights of the stock model by name, as PyTorch lays them out."""
    weights = {}
    for variable in model.weights:
        name = variable.path.partition("/")[2]
        if is_further_head(name):
            continue
        value = variable.value.numpy().astype(np.float32)
        weights[name] = value.T.copy() if is_kernel_transposed(name) else value
    return weights


def _check_one_to_one(side: str, found: set[str], mapped: set[str]) -> None:
    if found - mapped:
        raise UserError(f"{side} has {_listed(found - mapped)}, which ehr_bert/weights/names.py doesn't map")
    if mapped - found:
        raise UserError(f"{side} lacks {_listed(mapped - found)}, which ehr_bert/weights/names.py maps")


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))
