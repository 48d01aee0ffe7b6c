"""How neural contenders are fitted and all are calibrated, as a TOML file may say."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ehr_bert.prediction.optimization import FitSettings
from ehr_bert.settings import Count, Positive, Settings
from ehr_bert.toml import read_toml


@dataclass(frozen=True)
class Tuning(Settings):
    """What is tried, on the validation split.

    Attributes:
        learning_rates: Candidates of the pretrained BERT that learns as a whole, its head at this rate.
        head_learning_rates: Of a head over visits on a BERT that stays as it is; linear ones need none.
        untrained_learning_rates: Of a BERT from scratch.
        scratch_learning_rates: Of the other networks from scratch.
        calibration: From logits to risks.
        max_length: The most tokens that BERT reads of a history; its own limit if None.
        fit: The rest; its own learning rates aren't used.
    """

    learning_rates: tuple[Positive, ...] = (1e-4, 3e-4)
    head_learning_rates: tuple[Positive, ...] = (1e-3, 3e-3)
    untrained_learning_rates: tuple[Positive, ...] = (3e-4, 1e-3)
    scratch_learning_rates: tuple[Positive, ...] = (1e-3, 3e-3)
    calibration: Literal["platt", "temperature", "isotonic"] = "platt"
    max_length: Count | None = None
    fit: FitSettings = field(default_factory=FitSettings)

    @classmethod
    def read(cls, path: Path | None) -> "Tuning":
        """The settings of a TOML file; the defaults without one.

        Raises:
            UserError: the file can't be read, or a key or value is wrong.
        """
        return cls.from_dict(read_toml(path)) if path else cls()
