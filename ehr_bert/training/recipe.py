"""The recipe of a pretraining run. Together with the data it determines the weights.

A recipe is a TOML file with the settings that differ from the defaults. `docs/recipes.md` describes each key.
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
"""Keys that change the result of a training run by rounding at most. `*` is any phase."""

_RESERVED_NAMES = ("encoder", "stay", "model", "optimizer", "evaluation", "checkpoints", "early_stopping")
"""Names of other parts of a model, and of other tables of a recipe."""


@dataclass(frozen=True)
class Optimizer(Settings):
    """Settings of the optimizer.

    Attributes:
        name: `adamw` (Loshchilov and Hutter 2019), or `lamb` (You et al. 2020) for very large batches.
        weight_decay: Decoupled weight decay, as a share of the weight per unit of the learning rate.
        beta_1: Decay of the moving average of gradients.
        beta_2: Decay of the moving average of squared gradients.
        epsilon: Term added to the root of that average, for numerical stability.
        clip_norm: Maximum global norm of the gradient; 0 to disable clipping.
        no_decay: Weights whose name contains one of these do not decay, and `lamb` does not scale their
            updates.
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
    """Settings of a training phase, with separate windows, batches and learning rate.

    Attributes:
        max_seq_length: Longest window, in tokens. By default, that of the examples.
        batch_patients: Patients per update, over all devices. By default 256.
        batch_tokens: Real tokens per update, over all devices, instead of `batch_patients`.
        micro_batch_tokens: Positions that a device computes at a time. Memory grows with it. The number of
            micro-batches per update follows from it.
        steps: Number of updates. By default 10,000.
        epochs: Number of passes over all patients, instead of `steps`. Fractions are allowed.
        learning_rate: Peak learning rate.
        warmup_steps: Updates until the peak. By default a tenth of the phase.
        mixture: Weights of corpora, by name. An update has patients of each in proportion, or tokens if the
            batch is given in tokens. By default, the corpus whose windows have the length of the phase.
        carry_over: State kept from the previous phase: the weights with the `moments` of the optimizer, only
            the `weights`, or `nothing`.
        decay: Schedule after the warm-up. `linear` falls to 0 at the end of the phase, measured from its
            start, as in BERT. `cosine` falls to 0 from the end of the warm-up. `constant` stays at the peak.
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
                raise UserError(
                    "exclusive-settings", f"{either} and {other} are both set. Remove one of them."
                )
            if not stated:
                object.__setattr__(self, either, default)
        if self.mixture is not None:
            if not self.mixture:
                raise UserError("empty-mixture", "mixture is empty. Name at least one corpus, or remove it.")
            object.__setattr__(self, "mixture", dict(sorted(self.mixture.items())))

    def warmup(self, steps: int) -> int:
        """Return the number of warm-up updates in a phase of `steps` updates."""
        return steps // 10 if self.warmup_steps is None else self.warmup_steps


@dataclass(frozen=True)
class EvaluationSettings(Settings):
    """Settings of the evaluations on held-out examples.

    Attributes:
        every_steps: Updates between evaluations; 0 for a single evaluation at the end.
        max_batches: Maximum number of batches per evaluation. By default, all.
        corpus: Name of the corpus whose held-out patients are evaluated. Required if the last phase mixes
            several corpora. By default, the corpus of the last phase.
    """

    every_steps: Natural = 0
    max_batches: Count | None = None
    corpus: str | None = None


@dataclass(frozen=True)
class Checkpointing(Settings):
    """Settings of the checkpoints. One is also saved at the end, and when a training run is interrupted.

    Attributes:
        every_steps: Updates between checkpoints.
        every_minutes: Minutes between checkpoints, if that is sooner.
        keep: Number of newest checkpoints to keep.
    """

    every_steps: Count = 1000
    every_minutes: Positive = 15.0
    keep: Count = 5


@dataclass(frozen=True)
class EarlyStopping(Settings):
    """Settings of early stopping.

    Attributes:
        patience: Consecutive evaluations without a lower held-out loss after which the training run stops;
            0 to disable early stopping.
    """

    patience: Natural = 0


@dataclass(frozen=True)
class Recipe(Settings):
    """All settings of a pretraining run. Tables of the TOML file are attributes; each objective has a table.

    Attributes:
        init: Model to initialise from, such as a training folder or an export. By default, weights are
            random.
        init_new_codes: How codes that `init` does not have are initialised: with the mean of its codes of the
            same `category` (of all codes if it has none), with the `mean` of all codes, or with `random`
            values.
        precision: Precision of the computation: `float32`, `bfloat16` with weights in float32, or `auto`,
            which depends on the device.
        compile: Whether XLA compiles the training step. `auto` is the same as true.
        seed: Seed of weights, masks, dropout and the order of patients.
        report_every: Updates between lines of `metrics.jsonl`.
        model: Shape of the model.
        objectives: Settings of the objectives, by name. Masked codes and the prolonged stay are trained by
            default, others if their table is given.
        optimizer: Settings of the optimizer.
        phases: Phases, in order.
        evaluation: Settings of the evaluations.
        checkpoints: Settings of the checkpoints.
        early_stopping: Settings of early stopping.
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
            raise UserError("no-phases", "phases is empty. Add at least one [[phases]] table.")
        self._set_objectives()
        if self.early_stopping.patience and not self.evaluation.every_steps:
            raise UserError(
                "missing-setting",
                "early_stopping.patience counts evaluations during training. Set evaluation.every_steps.",
            )
        if self.init_new_codes != "category" and not self.init:
            raise UserError(
                "setting-without-effect", "init_new_codes has no effect without init. Remove it, or set init."
            )
        if (
            not self.optimizer.weight_decay
            and self.optimizer.name == "adamw"
            and (self.optimizer.no_decay != Optimizer.no_decay)
        ):
            raise UserError(
                "setting-without-effect",
                "optimizer.no_decay has no effect, since optimizer.weight_decay is 0. Remove it.",
            )
        if self.phases[0].carry_over != "moments":
            raise UserError(
                "setting-without-effect",
                f'phases.1.carry_over is "{self.phases[0].carry_over}", but the first phase has no previous '
                "phase. Remove it.",
            )
        mixed = self.phases[-1].mixture or {}
        if len(mixed) > 1 and not self.evaluation.corpus:
            raise UserError(
                "missing-setting",
                f"the last phase mixes the corpora {', '.join(mixed)}. Set evaluation.corpus to the one to "
                "evaluate.",
            )
        longest = self.model.max_position_embeddings
        for number, phase in enumerate(self.phases, 1):
            if phase.max_seq_length and phase.max_seq_length > longest:
                raise UserError(
                    "too-few-positions",
                    f"phases.{number}.max_seq_length is {phase.max_seq_length}, but "
                    f"model.max_position_embeddings is {longest}. Increase it, or lower max_seq_length.",
                )

    def _set_objectives(self) -> None:
        """Add the objectives that are trained by default, and check all."""
        settings = {name: OBJECTIVES[name].settings_type() for name in DEFAULT_OBJECTIVES} | self.objectives
        object.__setattr__(self, "objectives", settings)
        for name, objective_settings in settings.items():
            objective_type = OBJECTIVES[name]
            if name in _RESERVED_NAMES:
                raise UserError(
                    "reserved-objective", f"an objective cannot have the name {name}. Rename its entry point."
                )
            for key, value in objective_settings.to_dict().items():
                has_effect = objective_settings.enabled or key in (
                    "enabled",
                    *objective_type.used_when_disabled,
                )
                if not has_effect and value != getattr(objective_type.settings_type(), key):
                    raise UserError(
                        "setting-without-effect",
                        f"{name}.{key} has no effect, since {name}.enabled is false. Remove one of them.",
                    )
        if not any(objective_settings.enabled for objective_settings in settings.values()):
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

    def additional_heads(self) -> dict[str, Objective[Any]]:
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
        keys = {field.name for field in fields(cls)} - {"objectives"}
        objectives = {
            name: settings_of(OBJECTIVES[name].settings_type, table, f"{name}.")
            for name, table in values.items()
            if name in OBJECTIVES and name not in keys and _is_table(name, table)
        }
        others = {name: value for name, value in values.items() if name not in objectives}
        for name in others.keys() - keys:
            known = sorted({*keys, *OBJECTIVES})
            close = difflib.get_close_matches(name, known, n=1)
            raise UserError(
                "unknown-setting",
                f"unknown setting {name!r}. "
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
        """Read a recipe from a TOML file.

        Raises:
            UserError: The file cannot be read, a key is unknown, or a value does not fit.
        """
        values = read_toml(path)
        try:
            return cls.from_dict(values)
        except UserError as error:
            raise error.prefixed(f"{path}: ") from None

    def write(self, path: Path) -> None:
        """Write all settings, including defaults, so that `read` returns an equal recipe."""
        with atomic_files(path) as (temporary,):
            temporary.write_text(toml_text(self.to_dict()), encoding="utf-8")

    def differences(self, other: "Recipe") -> dict[str, tuple[Any, Any]]:
        """Return the settings that differ and change the result of a training run.

        Returns:
            This value and the other, by key with dots. Phases are numbered from 1. A missing value is None.
        """
        changes = differences(self.to_dict(), other.to_dict())
        # With early stopping, the schedule of the evaluations can change the result.
        patience = self.early_stopping.patience or other.early_stopping.patience
        return {
            key: values
            for key, values in changes.items()
            if _changes_result(key) or (patience and key.startswith("evaluation."))
        }


def _is_table(key: str, value: Any) -> bool:
    if not isinstance(value, Mapping):
        raise UserError("invalid-setting", f"{key} must be a table. Write [{key}] above its settings.")
    return True


def _changes_result(key: str) -> bool:
    table, *rest = key.split(".")
    return (f"phases.*.{'.'.join(rest[1:])}" if table == "phases" else key) not in NO_CHANGE
