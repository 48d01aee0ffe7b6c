"""Names of the weights: the Keras model and Hugging Face's `BertForPreTraining`.

The table is used in both directions. Parameters that share storage with another one (table and bias of the
output layer) are not listed, as in `torch.nn.Module.named_parameters`.
"""

from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")

EMBEDDING_NAMES = {"embeddings": "weight"}
DENSE = {"kernel": "weight", "bias": "bias"}
NORM_NAMES = {"gamma": "weight", "beta": "bias"}
BIAS = {"bias": "bias"}

OUTSIDE_BLOCKS = {
    "encoder/embeddings/tokens": ("bert.embeddings.word_embeddings", EMBEDDING_NAMES),
    "encoder/embeddings/positions": ("bert.embeddings.position_embeddings", EMBEDDING_NAMES),
    "encoder/embeddings/visits": ("bert.embeddings.token_type_embeddings", EMBEDDING_NAMES),
    "encoder/embeddings/norm": ("bert.embeddings.LayerNorm", NORM_NAMES),
    "masked_codes/transform": ("cls.predictions.transform.dense", DENSE),
    "masked_codes/norm": ("cls.predictions.transform.LayerNorm", NORM_NAMES),
    "masked_codes": ("cls.predictions", BIAS),
    "stay/pooler": ("bert.pooler.dense", DENSE),
    "stay/relationship": ("cls.seq_relationship", DENSE),
}
INSIDE_BLOCKS = {
    "attention/query": ("attention.self.query", DENSE),
    "attention/key": ("attention.self.key", DENSE),
    "attention/value": ("attention.self.value", DENSE),
    "attention/output": ("attention.output.dense", DENSE),
    "attention_norm": ("attention.output.LayerNorm", NORM_NAMES),
    "inner": ("intermediate.dense", DENSE),
    "outer": ("output.dense", DENSE),
    "outer_norm": ("output.LayerNorm", NORM_NAMES),
}


def parameter_names(num_hidden_layers: int) -> dict[str, str]:
    """Map the name of each Keras weight, without the name of the model, to its PyTorch parameter."""
    layers = OUTSIDE_BLOCKS | {
        f"encoder/block_{block}/{layer}": (f"bert.encoder.layer.{block}.{module}", leaves)
        for block in range(num_hidden_layers)
        for layer, (module, leaves) in INSIDE_BLOCKS.items()
    }
    return {
        f"{layer}/{leaf}": f"{module}.{torch_leaf}"
        for layer, (module, leaves) in layers.items()
        for leaf, torch_leaf in leaves.items()
    }


def is_additional_head(name: str) -> bool:
    """Return whether a Keras weight belongs to a head that `BertForPreTraining` does not have."""
    return name.partition("/")[0] not in {layer.partition("/")[0] for layer in OUTSIDE_BLOCKS}


def separate_additional_heads(weights: Mapping[str, T]) -> tuple[dict[str, T], dict[str, T]]:
    """Return the Keras weights of the stock model, and those of additional heads, by name."""
    heads = {name: value for name, value in weights.items() if is_additional_head(name)}
    return {name: value for name, value in weights.items() if name not in heads}, heads


def is_kernel_transposed(name: str) -> bool:
    """Return whether the layouts differ: a kernel is `[in, out]` in Keras and `[out, in]` in PyTorch."""
    return name.endswith("/kernel")
