"""The shape of a model, under the keys of the published `config.json`."""

from dataclasses import dataclass
from typing import Literal, get_args

from ehr_bert.errors import UserError
from ehr_bert.settings import Count, Fraction, Natural, Positive, Settings

Activation = Literal["gelu", "gelu_new", "relu"]
"""`gelu` is the exact form with erf, `gelu_new` the tanh approximation (Hendrycks and Gimpel 2016)."""

StayPooling = Literal["cls", "first", "sum", "mean"]
"""Where the stay objective looks: `[CLS]`, the first code, or the sum or mean over real positions."""

ACTIVATIONS, STAY_POOLINGS = get_args(Activation), get_args(StayPooling)


@dataclass(frozen=True)
class ModelConfig(Settings):
    """Shape of a BERT of patients; the defaults are Med-BERT's (Rasmy et al. 2021).

    Attributes:
        vocab_size: Rows of the embedding table, V; None until a vocabulary is known.
        hidden_size: Width of a position, H.
        num_hidden_layers: Encoder blocks.
        num_attention_heads: Heads of an attention, A; divides `hidden_size`.
        intermediate_size: Inner width of a block's feed-forward part, I.
        hidden_act: An `Activation`.
        hidden_dropout_prob: Dropout after embeddings, attention and feed-forward parts.
        attention_probs_dropout_prob: Dropout of attention weights.
        max_position_embeddings: The longest window.
        type_vocab_size: Visit ids that can be told apart; later visits share the last one.
        initializer_range: Standard deviation of the truncated normal that weights start from.
        layer_norm_eps: Epsilon of layer normalisations.
        pad_token_id: Id of `[PAD]`.
        stay_pooling: A `StayPooling`.
    """

    vocab_size: Count | None = None
    hidden_size: Count = 192
    num_hidden_layers: Count = 6
    num_attention_heads: Count = 6
    intermediate_size: Count = 64
    hidden_act: Activation = "gelu"
    hidden_dropout_prob: Fraction = 0.1
    attention_probs_dropout_prob: Fraction = 0.1
    max_position_embeddings: Count = 512
    type_vocab_size: Count = 1000
    initializer_range: Positive = 0.02
    layer_norm_eps: Positive = 1e-12
    pad_token_id: Natural = 0
    stay_pooling: StayPooling = "cls"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden_size % self.num_attention_heads:
            raise UserError(
                f"hidden_size {self.hidden_size} is not a multiple of "
                f"num_attention_heads {self.num_attention_heads}"
            )
