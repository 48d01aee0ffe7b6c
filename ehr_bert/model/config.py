"""Shape of a model, with the keys of the published `config.json`."""

from dataclasses import dataclass
from typing import Literal, get_args

from ehr_bert.errors import UserError
from ehr_bert.settings import Count, Fraction, Natural, Positive, Settings

Activation = Literal["gelu", "gelu_new", "relu"]
"""`gelu` is the exact form with erf, `gelu_new` its tanh approximation (Hendrycks and Gimpel 2016)."""

StayPooling = Literal["cls", "first", "sum", "mean"]
"""Input of the prolonged-stay head: `[CLS]`, the first code, or the sum or mean over real positions."""

ACTIVATIONS, STAY_POOLINGS = get_args(Activation), get_args(StayPooling)


@dataclass(frozen=True)
class ModelConfig(Settings):
    """Shape of a BERT of patients. The defaults are those of Med-BERT (Rasmy et al. 2021).

    Attributes:
        vocab_size: Rows of the token embeddings, V; None until the vocabulary is known.
        hidden_size: Hidden size, H.
        num_hidden_layers: Number of encoder blocks.
        num_attention_heads: Number of attention heads, A. It divides `hidden_size`.
        intermediate_size: Intermediate size of the feed-forward networks, I.
        hidden_act: Activation function, see `Activation`.
        hidden_dropout_prob: Dropout rate of embeddings, attention outputs and feed-forward outputs.
        attention_probs_dropout_prob: Dropout rate of attention weights.
        max_position_embeddings: Length of the longest window.
        type_vocab_size: Number of distinct visit ids. Later visits share the last one.
        initializer_range: Standard deviation of the truncated normal distribution of initial weights.
        layer_norm_eps: Epsilon of layer normalisations.
        pad_token_id: Id of `[PAD]`.
        stay_pooling: Input of the prolonged-stay head, see `StayPooling`.
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
                "indivisible-hidden-size",
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads "
                f"{self.num_attention_heads}. Change one of them.",
            )
