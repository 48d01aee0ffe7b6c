"""How a model is trained: all that, with the data, decides its weights.

A recipe is a TOML file that states only what differs from the defaults. `docs/recipes.md` tells each key.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, cast

from ehr_bert.errors import UserError
from ehr_bert.files import atomic_files
from ehr_bert.model.config import ModelConfig
from ehr_bert.objectives import DEFAULT_OBJECTIVES, OBJECTIVES
from ehr_bert.objectives.masked_codes import MaskedCodesSettings
from ehr_bert.objectives.objective import Objective, ObjectiveSettings
from ehr_bert.settings import (
    Count,
    Fraction,
    Natural,
    NonNegative,
    Positive,
    Settings,
    differences,
    settings_of,
)
from ehr_bert.toml import read_toml, toml_text

DEFAULT_STEPS = 10_000
DEFAULT_BATCH_PATIENTS = 256

NO_CHANGE = (
    "phases.*.micro_batch_tokens",
    "evaluation.every_steps",
    "evaluation.max_batches",
    "checkpoints.every_steps",
    "checkpoints.every_minutes",
    "checkpoints.keep",
    "compile",
    "report_every",
)
"""Keys that change the result of a training by rounding at most. `*` is any phase."""

_RESERVED_NAMES = ("encoder", "stay", "model", "optimizer", "evaluation", "checkpoints", "early_stopping")
"""Names of other parts of a model, and of other tables of a recipe."""


@dataclass(frozen=True)
class Optimizer(Settings):
    """What makes an update of gradients.

    Attributes:
        name: `adamw` (Loshchilov and Hutter 2019), or `lamb` (You et al. 2020) for batches of many thousands.
        weight_decay: Decoupled weight decay, a share of the weight for each unit of the learning rate.
        beta_1: Decay of the mean of gradients.
        beta_2: Decay of the mean of squared gradients.
        epsilon: Added to the root of that mean.
        clip_norm: Largest global norm of a gradient; 0 for any.
        no_decay: Weights whose name holds one of these don't decay; nor does
            `lamb` scale their updates.
    """

    name: Literal["adamw", "lamb"] = "adamw"
    weight_decay: NonNegative = 0.01
    beta_1: Fraction = 0.9
    beta_2: Fraction = 0.999
    epsilon: Positive = 1e-6
    clip_norm: NonNegative = 1.0
    no_decay: tuple[str, ...] = ("bias", "gamma", "beta")


@dataclass(frozen=True)
class Phase(Settings):
    """A stretch of a training with windows, batches and a learning rate of its own.

    Attributes:
        max_seq_length: Longest window, in tokens; as long as the examples if not stated.
        batch_patients: Patients an update, over all devices; 256 if no batch is stated.
        batch_tokens: Real tokens an update, over all devices, in place of `batch_patients`.
        micro_batch_tokens: Positions that a device computes at a time: memory grows with it. An update is
            made of as many micro-batches as its batch asks for.
        steps: Updates; 10,000 if neither these nor epochs are stated.
        epochs: Times that all patients are seen, in place of `steps`; parts of one are allowed.
        learning_rate: The peak.
        warmup_steps: Updates over which the rate rises to its peak; a tenth of the phase if not stated.
        mixture: Corpora by name, each with its weight: an update takes patients of each in proportion, or
            tokens where the batch is stated in tokens. If not stated, the one with the phase's length.
        carry_over: What the phase takes over from the one before: the weights with the optimizer's
            `moments`, the `weights` alone, or `nothing`. The first phase has none before it.
        decay: How the rate goes on: `linear` falls to 0 at the phase's end as in BERT, measured from its
            beginning; `cosine` falls to 0 from the end of the warm-up; `constant` stays.
    """

    max_seq_length: Count | None = None
    batch_patients: Count | None = None
    batch_tokens: Count | None = None
    micro_batch_tokens: Count = 16_384
    steps: Count | None = None
    epochs: Positive | None = None
    learning_rate: NonNegative = 1e-4
    warmup_steps: Natural | None = None
    decay: Literal["linear", "cosine", "constant"] = "linear"
    mixture: dict[str, Positive] | None = None
    carry_over: Literal["moments", "weights", "nothing"] = "moments"

    def __post_init__(self) -> None:
        super().__post_init__()
        for either, other, default in (
            ("batch_patients", "batch_tokens", DEFAULT_BATCH_PATIENTS),
            ("steps", "epochs", DEFAULT_STEPS),
        ):
            stated = [key for key in (either, other) if getattr(self, key) is not None]
            if len(stated) == 2:
                raise UserError(f"{either} and {other} are both stated: state one of them")
            if not stated:
                object.__setattr__(self, either, default)
        if self.mixture is not None:
            if not self.mixture:
                raise UserError("mixture names no corpus: name one at least, or leave it out")
            object.__setattr__(self, "mixture", dict(sorted(self.mixture.items())))

    def warmup(self, steps: int) -> int:
        """Updates of warm-up in a phase of `steps` updates."""
        return steps // 10 if self.warmup_steps is None else self.warmup_steps


@dataclass(frozen=True)
class EvaluationSettings(Settings):
    """When held-out examples are looked at.

    Attributes:
        every_steps: Updates between evaluations; 0 for one at the end alone.
        max_batches: Batches of an evaluation at most; all if not stated.
        corpus: Name of the corpus whose held-out patients are looked at; the last phase's if not stated,
            which must be one then.
    """

    every_steps: Natural = 0
    max_batches: Count | None = None
    corpus: str | None = None


@dataclass(frozen=True)
class Checkpointing(Settings):
    """When the state is saved; a training that is told to stop, or ends, saves it too.

    Attributes:
        every_steps: Updates between checkpoints.
        every_minutes: Minutes between checkpoints, where that is sooner.
        keep: The newest so many are kept.
    """

    every_steps: Count = 1000
    every_minutes: Positive = 15.0
    keep: Count = 5


@dataclass(frozen=True)
class EarlyStopping(Settings):
    """When a training ends before its steps are done.

    Attributes:
        patience: Evaluations in a row without a lower held-out loss; 0 to go on to the end.
    """

    patience: Natural = 0


@dataclass(frozen=True)
class Recipe(Settings):
    """All settings of a training; each table of the TOML file is an attribute.

    Attributes:
        init: Model that the first weights come from, such as a training or an export folder; random if not
            stated.
        init_new_codes: The first weights of codes that `init` lacks: the mean of its codes of the same
            `category`, or of all where it has none; the `mean` of all; or `random`.
        precision: Of the computation: `float32`, `bfloat16` with weights in float32, or `auto` by device.
        compile: Whether XLA compiles the step; `auto` where it pays.
        seed: Of weights, masks, dropout and the order of patients.
        report_every: Updates between lines of `metrics.jsonl`.
        model: The model's shape.
        objectives: Settings of the objectives, by registered name. Each is a table of the TOML file. Masked
            codes and prolonged stays have their defaults if they are not stated; other objectives are not
            trained.
        optimizer: What makes an update of gradients.
        phases: Stretches of the training, in order.
        evaluation: When held-out examples are looked at.
        checkpoints: When the state is saved.
        early_stopping: When the training ends before its steps are done.
    """

    init: str | None = None
    init_new_codes: Literal["category", "mean", "random"] = "category"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: Literal["auto", True, False] = "auto"
    seed: Natural = 12345
    report_every: Count = 100
    model: ModelConfig = field(default_factory=ModelConfig)
    objectives: dict[str, ObjectiveSettings] = field(default_factory=dict)
    optimizer: Optimizer = Optimizer()
    phases: tuple[Phase, ...] = (Phase(),)
    evaluation: EvaluationSettings = EvaluationSettings()
    checkpoints: Checkpointing = Checkpointing()
    early_stopping: EarlyStopping = EarlyStopping()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.phases:
            raise UserError("phases is empty: a training has one [[phases]] at least")
        self._set_objectives()
        if self.early_stopping.patience and not self.evaluation.every_steps:
            raise UserError("early_stopping.patience counts evaluations: state evaluation.every_steps")
        if self.phases[0].carry_over != "moments":
            raise UserError(
                f'phases.1.carry_over is "{self.phases[0].carry_over}", but no phase comes before the first: '
                "leave it out"
            )
        mixed = self.phases[-1].mixture or {}
        if len(mixed) > 1 and not self.evaluation.corpus:
            raise UserError(
                f"the last phase mixes {', '.join(mixed)}: state evaluation.corpus, whose held-out patients "
                "are looked at"
            )
        longest = self.model.max_position_embeddings
        for number, phase in enumerate(self.phases, 1):
            if phase.max_seq_length and phase.max_seq_length > longest:
                raise UserError(
                    f"phases.{number}.max_seq_length is {phase.max_seq_length}, over "
                    f"model.max_position_embeddings, which is {longest}"
                )

    def _set_objectives(self) -> None:
        """Add the objectives that are trained by default, and check all."""
        settings = {name: OBJECTIVES[name].settings_type() for name in DEFAULT_OBJECTIVES} | self.objectives
        object.__setattr__(self, "objectives", settings)
        for name, own in settings.items():
            kind = OBJECTIVES[name]
            if name in _RESERVED_NAMES:
                raise UserError(
                    "reserved-objective", f"an objective cannot have the name {name}. Rename its entry point."
                )
            for key, value in own.to_dict().items():
                has_effect = own.enabled or key in ("enabled", *kind.used_when_disabled)
                if not has_effect and value != getattr(kind.settings_type(), key):
                    raise UserError(
                        "setting-without-effect",
                        f"{name}.{key} has no effect, since {name}.enabled is false. Remove one of them.",
                    )
        if not any(own.enabled for own in settings.values()):
            raise UserError(
                "no-objective", f"none of {', '.join(settings)} is enabled. Enable at least one objective."
            )

    @property
    def masked_codes(self) -> MaskedCodesSettings:
        """Settings of masked codes. They include the masking of the input."""
        return cast(MaskedCodesSettings, self.objectives["masked_codes"])

    def all_objectives(self) -> dict[str, Objective[Any]]:
        """Return all objectives by name, enabled or not."""
        return {name: OBJECTIVES[name](name, settings) for name, settings in self.objectives.items()}

    def enabled_objectives(self) -> dict[str, Objective[Any]]:
        """Return the objectives that are trained, by name."""
        return {
            name: objective for name, objective in self.all_objectives().items() if objective.settings.enabled
        }

    def further_heads(self) -> dict[str, Objective[Any]]:
        """Return the enabled objectives whose heads are not those of stock BERT, by name."""
        return {
            name: objective
            for name, objective in self.enabled_objectives().items()
            if not objective.stock_head
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Recipe":
        """Return the recipe of the tables of a TOML file.

        Raises:
            UserError: A key is unknown (key `unknown-setting`), or a value does not fit.
        """
        objectives = {
            name: settings_of(OBJECTIVES[name].settings_type, table, f"{name}.")
            for name, table in values.items()
            if name in OBJECTIVES and isinstance(table, Mapping)
        }
        others = {name: value for name, value in values.items() if name not in objectives}
        keys = {field.name for field in fields(cls)} - {"objectives"}
        for name in others.keys() - keys:
            known = sorted({*keys, *OBJECTIVES})
            close = difflib.get_close_matches(name, known, n=1)
            raise UserError(
                "unknown-setting",
                f"unknown key {name!r}. "
                + (f"Did you mean {close[0]}?" if close else f"Known keys: {', '.join(known)}."),
            )
        return settings_of(cls, {**others, "objectives": objectives})

    def to_dict(self) -> dict[str, Any]:
        """Return all settings, each objective as a table."""
        values: dict[str, Any] = {}
        for key, value in super().to_dict().items():
            values |= value if key == "objectives" else {key: value}
        return values

    @classmethod
    def read(cls, path: Path) -> "Recipe":
        """Reads a TOML file.

        Raises:
            UserError: it can't be read, a key is unknown, or a value doesn't fit.
        """
        values = read_toml(path)
        try:
            return cls.from_dict(values)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    def write(self, path: Path) -> None:
        """Writes all settings, defaults too, so that `read` gives them back."""
        with atomic_files(path) as (temporary,):
            temporary.write_text(toml_text(self.to_dict()), encoding="utf-8")

    def differences(self, other: "Recipe") -> dict[str, tuple[Any, Any]]:
        """Keys, with dots, whose values differ and lead to another result: this one's value, and the other's.

        Phases are numbered from 1. What is not stated is None.
        """
        found = differences(self.to_dict(), other.to_dict())
        # Where evaluations can end the training, when they come matters.
        patience = self.early_stopping.patience or other.early_stopping.patience
        return {
            key: values
            for key, values in found.items()
            if _changes_result(key) or (patience and key.startswith("evaluation."))
        }


def _changes_result(key: str) -> bool:
    table, *rest = key.split(".")
    return (f"phases.*.{'.'.join(rest[1:])}" if table == "phases" else key) not in NO_CHANGE
