"""A model that another one can begin with, whatever form it was read from."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ehr_bert.model.config import ModelConfig
from ehr_bert.vocabulary import Vocabulary
from ehr_bert.weights.names import parameter_names


@dataclass(frozen=True)
class Pretrained:
    """A model's shape, its weights by name, and what its ids mean.

    Attributes:
        config: The model's shape, with its `vocab_size`.
        weights: float32 arrays under the names of `parameter_names`, as Keras lays them out. Those of a head
            that it never had are absent.
        source: The folder or checkpoint that it was read from.
        vocabulary: Its tokens by id, if they are known; those past the table's last row have no weights.
        mask_id: The id that hid a code, if it is known.
        cls_id: The id that led each patient; None if none did, or if it is unknown.
        left_out: Names in `source` that are no weights of this model, such as another head's.
    """

    config: ModelConfig
    weights: dict[str, np.ndarray]
    source: Path
    vocabulary: Vocabulary | None = None
    mask_id: int | None = None
    cls_id: int | None = None
    left_out: tuple[str, ...] = ()

    @cached_property
    def lacking(self) -> list[str]:
        """The names of weights that a model of its shape has, and it has not."""
        return sorted(set(parameter_names(self.config.num_hidden_layers)) - set(self.weights))

    @cached_property
    def sha256(self) -> str:
        """A fingerprint of the weights: the same for a checkpoint and its export."""
        digest = hashlib.sha256()
        for name in sorted(self.weights):
            value = self.weights[name]
            digest.update(f"{name} {list(value.shape)}\n".encode())
            digest.update(value.astype("<f4").tobytes())
        return digest.hexdigest()


def shown(names: Iterable[str], most: int = 3) -> str:
    """Some names for a message, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
