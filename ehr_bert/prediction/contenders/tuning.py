"""Settings of the neural contenders and of the calibration, which may come from a TOML file."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self

from ehr_bert.errors import UserError
from ehr_bert.prediction.optimization import SearchFitSettings
from ehr_bert.settings import Count, Positive, Settings
from ehr_bert.toml import read_toml

_DECIDED_ELSEWHERE = {
    "learning_rate": "learning_rates, untrained_learning_rates or scratch_learning_rates",
    "head_learning_rate": "head_learning_rates",
    "frozen": "--models frozen_HEAD",
}
"""Settings of a single fit that a search overrides, and the settings to use instead."""


@dataclass(frozen=True)
class Tuning(Settings):
    """Candidates that are compared on the validation split, and how they are fitted.

    Attributes:
        learning_rates: Candidates for the pretrained BERT as a whole, with its head at this rate.
        head_learning_rates: Candidates for a head on a frozen BERT. Linear heads need none.
        untrained_learning_rates: Candidates for a BERT from scratch.
        scratch_learning_rates: Candidates for the other networks from scratch.
        calibration: Method of the calibration.
        max_length: Maximum number of tokens of a history that BERT reads; the limit of the model if None.
        fit: Settings of each fit.

    Raises:
        UserError: A list of candidates is empty (key `empty-setting`).
    """

    learning_rates: tuple[Positive, ...] = (1e-4, 3e-4)
    head_learning_rates: tuple[Positive, ...] = (1e-3, 3e-3)
    untrained_learning_rates: tuple[Positive, ...] = (3e-4, 1e-3)
    scratch_learning_rates: tuple[Positive, ...] = (1e-3, 3e-3)
    calibration: Literal["platt", "temperature", "isotonic"] = "platt"
    max_length: Count | None = None
    fit: SearchFitSettings = field(default_factory=SearchFitSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in (setting.name for setting in fields(self) if setting.name.endswith("learning_rates")):
            if not getattr(self, name):
                raise UserError("empty-setting", f"{name} is empty. List at least one learning rate.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the settings of a table.

        Raises:
            UserError: A setting has no effect (key `setting-without-effect`), or a key or value is wrong, as
                in `settings_of`.
        """
        fit = values.get("fit", {})
        for key, instead in _DECIDED_ELSEWHERE.items():
            if isinstance(fit, Mapping) and key in fit:
                raise UserError(
                    "setting-without-effect",
                    f"fit.{key} has no effect here. Remove it, and set {instead} instead.",
                )
        return super().from_dict(values)

    @classmethod
    def read(cls, path: Path | None) -> "Tuning":
        """Return the settings of a TOML file, or the defaults without one.

        Raises:
            UserError: The file cannot be read, or a setting is wrong or has no effect, as in `from_dict`.
        """
        if path is None:
            return cls()
        values = read_toml(path)
        try:
            return cls.from_dict(values)
        except UserError as error:
            raise error.prefixed(f"{path}: ") from error


def without_ineffective(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Remove from the recorded settings of an earlier version those that had no effect."""
    fit = {key: value for key, value in recorded.get("fit", {}).items() if key not in _DECIDED_ELSEWHERE}
    return {**recorded, "fit": fit}
