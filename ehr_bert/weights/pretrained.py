"""A model to initialise another one from, in whatever format it was read."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from ehr_bert.model.config import ModelConfig
from ehr_bert.vocabulary import Vocabulary
from ehr_bert.weights.names import parameter_names


@dataclass(frozen=True)
class Pretrained:
    """The shape of a model, its weights by name, and the meaning of its ids.

    Attributes:
        config: Shape of the model, with its `vocab_size`.
        weights: float32 arrays by the Keras names of `parameter_names`, in Keras layout. Heads that the model
            does not have are absent.
        source: Folder or checkpoint that it was read from.
        vocabulary: Tokens by id, if they are known. Tokens past the last row of the table have no weights.
        mask_id: Id of masked codes, if it is known.
        cls_id: Id at the start of each patient. None if there is none or if it is unknown.
        heads: Weights of heads that stock BERT does not have, by Keras name, in Keras layout.
        left_out: Names in `source` that are not weights of this model, such as those of another head.
    """

    config: ModelConfig
    weights: dict[str, np.ndarray]
    source: Path
    vocabulary: Vocabulary | None = None
    mask_id: int | None = None
    cls_id: int | None = None
    left_out: tuple[str, ...] = ()
    heads: Mapping[str, np.ndarray] = field(default_factory=dict)

    @cached_property
    def missing(self) -> list[str]:
        """Names of weights that a model of this shape has, but this one does not."""
        return sorted(set(parameter_names(self.config.num_hidden_layers)) - set(self.weights))

    @cached_property
    def sha256(self) -> str:
        """Fingerprint of the weights, equal for a checkpoint and its export."""
        digest = hashlib.sha256()
        for name in sorted(self.weights):
            value = self.weights[name]
            digest.update(f"{name} {list(value.shape)}\n".encode())
            digest.update(value.astype("<f4").tobytes())
        return digest.hexdigest()


def list_names(names: Iterable[str], limit: int = 3) -> str:
    """Return the first names for a message, at most `limit`, and the number of the others."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
