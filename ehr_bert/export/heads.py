"""Heads of objectives that `BertForPreTraining` does not have, in `heads.safetensors`."""

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from ehr_bert.weights.hugging_face import HEADS_FILE


def write_heads(folder: Path, heads: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Write `heads.safetensors`, unless there are no additional heads.

    Args:
        folder: Export folder.
        heads: Weights by name, `<objective>/<weight>`, as Keras lays them out.

    Returns:
        Number of parameters of each head, by objective.
    """
    if heads:
        arrays = {name: np.ascontiguousarray(value, np.float32) for name, value in heads.items()}
        save_file(arrays, folder / HEADS_FILE)
    parameters: Counter[str] = Counter()
    for name, value in heads.items():
        parameters[name.partition("/")[0]] += math.prod(value.shape)
    return dict(sorted(parameters.items()))


def heads_text(parameters: Mapping[str, int]) -> str:
    """Return the sentence of the model card on additional heads, empty if there are none."""
    if not parameters:
        return ""
    counts = ", ".join(f"`{name}` ({count:,} parameters)" for name, count in parameters.items())
    return (
        f"\n`{HEADS_FILE}` contains heads that stock BERT does not have: {counts}. Its tensors are named\n"
        "`<objective>/<weight>`, and laid out as in Keras.\n"
    )
