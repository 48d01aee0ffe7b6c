"""The shape of a model, under the keys of the published `config.json`."""

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ehr_bert.errors import UserError

ACTIVATIONS = ("gelu", "gelu_new", "relu")
"""`gelu` is the exact form with erf, `gelu_new` the tanh approximation (Hendrycks and Gimpel 2016)."""

STAY_POOLINGS = ("cls", "first", "sum", "mean")
"""Where the stay objective looks: `[CLS]`, the first code, or the sum or mean over real positions."""


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a BERT of patients; the defaults are Med-BERT's (Rasmy et al. 2021).

    Attributes:
        vocab_size: Rows of the embedding table, V; None until a vocabulary is known.
        hidden_size: Width of a position, H.
        num_hidden_layers: Encoder blocks.
        num_attention_heads: Heads of an attention, N; divides `hidden_size`.
        intermediate_size: Inner width of a block's feed-forward part, I.
        hidden_act: One of `ACTIVATIONS`.
        hidden_dropout_prob: Dropout after embeddings, attention and feed-forward parts.
        attention_probs_dropout_prob: Dropout of attention weights.
        max_position_embeddings: The longest window.
        type_vocab_size: Visit ids that can be told apart; later visits share the last one.
        initializer_range: Standard deviation of the truncated normal that weights start from.
        layer_norm_eps: Epsilon of layer normalisations.
        pad_token_id: Id of `[PAD]`.
        stay_pooling: One of `STAY_POOLINGS`.
    """

    vocab_size: int | None = None
    hidden_size: int = 192
    num_hidden_layers: int = 6
    num_attention_heads: int = 6
    intermediate_size: int = 64
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 1000
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0
    stay_pooling: str = "cls"

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            raise UserError(
                f"hidden_size {self.hidden_size} is not a multiple of "
                f"num_attention_heads {self.num_attention_heads}"
            )
        for key, choices in (("hidden_act", ACTIVATIONS), ("stay_pooling", STAY_POOLINGS)):
            if getattr(self, key) not in choices:
                raise UserError(f"{key} {getattr(self, key)!r} is none of {', '.join(choices)}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelConfig":
        """The config of a JSON object.

        Raises:
            UserError: a key is unknown, or a value doesn't fit.
        """
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
                raise UserError(f"unknown key {key!r} in the model config: {hint}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """The config as a JSON object."""
        return asdict(self)
