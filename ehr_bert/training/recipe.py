"""How a model is trained: all that, with the data and the model's shape, decides its weights."""

from dataclasses import asdict, dataclass
from typing import Any

from ehr_bert.errors import UserError


@dataclass(frozen=True)
class Recipe:
    """Settings of a training; the defaults are the original program's.

    Attributes:
        max_seq_length: Positions of a window; stored examples are padded or cut to it.
        max_predictions_per_seq: Masked places of a window; likewise.
        batch_size: Examples an update, over all devices.
        steps: Updates in all.
        warmup_steps: Updates over which the learning rate rises to its peak.
        learning_rate: The peak; from it the rate falls linearly to 0 at `steps`.
        weight_decay: Decoupled weight decay, on all but biases and layer normalisations.
        clip_norm: Largest global norm of a gradient.
        seed: Of weights, dropout and the order of examples.
    """

    max_seq_length: int = 128
    max_predictions_per_seq: int = 20
    batch_size: int = 32
    steps: int = 100_000
    warmup_steps: int = 10_000
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    seed: int = 12345

    def __post_init__(self) -> None:
        for key in ("max_seq_length", "max_predictions_per_seq", "batch_size", "steps"):
            if getattr(self, key) < 1:
                raise UserError(f"{key} must be 1 or more, not {getattr(self, key)}")
        for key in ("warmup_steps", "learning_rate", "weight_decay", "clip_norm", "seed"):
            if getattr(self, key) < 0:
                raise UserError(f"{key} must be 0 or more, not {getattr(self, key)}")

    def to_dict(self) -> dict[str, Any]:
        """The recipe as a JSON object."""
        return asdict(self)
