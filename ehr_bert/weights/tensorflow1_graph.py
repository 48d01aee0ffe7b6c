"""Settings read from the graph of a TensorFlow 1 checkpoint.

The published programs hard-code the epsilon of layer normalisation, the form of `gelu` and the pooling of the
stay head, and copies of that code differ in all three. TensorFlow's saver writes the graph as
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
"""The operation that identifies an activation, and the name of the activation in `ModelConfig`."""

POOLING_BY_OPERATION = {"Sum": "sum", "Mean": "mean"}
"""The operation that pools the input of the stay head, and its `StayPooling`. By default BERT's pooler."""


def graph_file(checkpoint: Path) -> Path:
    """Return the file to which TensorFlow's saver writes the graph of a checkpoint."""
    return Path(f"{checkpoint}.meta")


def graph_settings(checkpoint: Path) -> dict[str, Any]:
    """Return settings of a model from its graph: `layer_norm_eps`, `hidden_act`, and sum or mean pooling.

    Args:
        checkpoint: Prefix, `folder/model.ckpt-<step>`.

    Returns:
        Values by key of `ModelConfig`. Settings that are not in the graph are left out. The result is empty
        if there is no graph.

    Raises:
        UserError: The file is not a graph (key `unreadable-graph`).
    """
    file = graph_file(checkpoint)
    if not file.exists():
        return {}
    meta = tf.compat.v1.MetaGraphDef()
    try:
        meta.ParseFromString(file.read_bytes())
    except DecodeError as error:
        raise UserError(
            "unreadable-graph", f"{file} is not a TensorFlow graph. Copy it again, or remove it."
        ) from error
    nodes = {node.name: node for node in meta.graph_def.node}
    return _epsilon(nodes) | _activation(nodes) | _pooling(nodes)


def _epsilon(nodes: dict[str, Any]) -> dict[str, Any]:
    """Return the epsilon of layer normalisation, which is a fused operation or a sum with a constant."""
    for name, node in nodes.items():
        if not name.startswith(NORM_SCOPE):
            continue
        if node.op.startswith("FusedBatchNorm"):
            return {"layer_norm_eps": _shortest(node.attr["epsilon"].f)}
        if name == f"{NORM_SCOPE}batchnorm/add/y":
            return {"layer_norm_eps": _shortest(tf.make_ndarray(node.attr["value"].tensor).item())}
    return {}


def _shortest(value: float) -> float:
    """Return the shortest decimal number that rounds to a float32 value."""
    return float(str(tf.float32.as_numpy_dtype(value)))


def _activation(nodes: dict[str, Any]) -> dict[str, Any]:
    for name, node in nodes.items():
        if name.startswith(INNER) and node.op in ACTIVATION_BY_OPERATION:
            return {"hidden_act": ACTIVATION_BY_OPERATION[node.op]}
    return {}


def _pooling(nodes: dict[str, Any]) -> dict[str, Any]:
    if STAY_PRODUCT not in nodes:
        return {}
    operation = nodes[nodes[STAY_PRODUCT].input[0].partition(":")[0]].op
    return {"stay_pooling": POOLING_BY_OPERATION[operation]} if operation in POOLING_BY_OPERATION else {}
