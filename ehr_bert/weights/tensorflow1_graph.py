"""What the graph beside a TensorFlow 1 checkpoint computes.

The published programs keep the epsilon of layer normalisation, the form of `gelu` and what the stay head
reads in their code, and copies of that code differ in all three. TensorFlow's saver writes the graph as
`model.ckpt-<step>.meta`.
"""

from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError

from ehr_bert.errors import UserError

NORM_SCOPE = "bert/embeddings/LayerNorm/"
INNER = "bert/encoder/layer_0/intermediate/"
STAY_PRODUCT = "cls/seq_relationship/MatMul"

ACTIVATION_BY_OPERATION = {"Erf": "gelu", "Tanh": "gelu_new", "Relu": "relu"}
"""The operation that tells an activation, and the activation's name in `ModelConfig`."""

SUMMED = {"Sum": "sum", "Mean": "mean"}
"""The operation that makes what the stay head reads, and its `StayPooling`; else it is BERT's pooler."""


def graph_file(checkpoint: Path) -> Path:
    """Where TensorFlow's saver writes the graph of a checkpoint."""
    return Path(f"{checkpoint}.meta")


def graph_settings(checkpoint: Path) -> dict[str, Any]:
    """What the graph tells of a model: `layer_norm_eps`, `hidden_act`, and a `stay_pooling` by sum or mean.

    Args:
        checkpoint: The prefix, `folder/model.ckpt-<step>`.

    Returns:
        Keys of `ModelConfig`; those that the graph doesn't tell, or all if there is no graph, are left out.

    Raises:
        UserError: the file is no graph.
    """
    file = graph_file(checkpoint)
    if not file.exists():
        return {}
    meta = tf.compat.v1.MetaGraphDef()
    try:
        meta.ParseFromString(file.read_bytes())
    except DecodeError as error:
        raise UserError(f"{file} is no TensorFlow graph: copy it again, or remove it") from error
    nodes = {node.name: node for node in meta.graph_def.node}
    return _epsilon(nodes) | _activation(nodes) | _pooling(nodes)


def _epsilon(nodes: dict[str, Any]) -> dict[str, Any]:
    """Layer normalisation is one fused operation, or a sum with a constant."""
    for name, node in nodes.items():
        if not name.startswith(NORM_SCOPE):
            continue
        if node.op.startswith("FusedBatchNorm"):
            return {"layer_norm_eps": _shortest(node.attr["epsilon"].f)}
        if name == f"{NORM_SCOPE}batchnorm/add/y":
            return {"layer_norm_eps": _shortest(tf.make_ndarray(node.attr["value"].tensor).item())}
    return {}


def _shortest(value: float) -> float:
    """The decimal number that was meant by one of float32."""
    return float(str(tf.float32.as_numpy_dtype(value)))


def _activation(nodes: dict[str, Any]) -> dict[str, Any]:
    for name, node in nodes.items():
        if name.startswith(INNER) and node.op in ACTIVATION_BY_OPERATION:
            return {"hidden_act": ACTIVATION_BY_OPERATION[node.op]}
    return {}


def _pooling(nodes: dict[str, Any]) -> dict[str, Any]:
    if STAY_PRODUCT not in nodes:
        return {}
    read = nodes[nodes[STAY_PRODUCT].input[0].partition(":")[0]].op
    return {"stay_pooling": SUMMED[read]} if read in SUMMED else {}
