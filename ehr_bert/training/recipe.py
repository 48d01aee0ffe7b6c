"""How a model is trained: all that, with the data, decides its weights.

A recipe is a TOML file that states only what differs from the defaults. `docs/recipes.md` tells each key.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ehr_bert.errors import UserError
from ehr_bert.files import atomic_files
from ehr_bert.model.config import ModelConfig
from ehr_bert.schemas import PROLONGED_STAY_DAYS
from ehr_bert.settings import (
    Count,
    Fraction,
    Natural,
    NonNegative,
    Positive,
    PositiveShare,
    Settings,
    Share,
    differences,
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
"""Keys that leave a training's result as it is, but for rounding; `*` is any phase."""


@dataclass(frozen=True)
class MaskedCodes(Settings):
    """The objective of masked codes (Devlin et al. 2019, section 3.1, task 1).

    Packed examples are masked afresh in every epoch; the tutorial's were masked when they were written.

    Attributes:
        enabled: Whether it is trained.
        weight: What its loss is multiplied by.
        probability: Share of a window's codes that are masked.
        mask_share: Of the masked codes, the share that becomes `[MASK]`.
        random_share: Of the masked codes, the share that becomes a random code; the rest stays as it is.
    """

    enabled: bool = True
    weight: Positive = 1.0
    probability: PositiveShare = 0.15
    mask_share: Share = 0.8
    random_share: Share = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mask_share + self.random_share > 1:
            raise UserError(f"mask_share {self.mask_share} and random_share {self.random_share} are over 1")


@dataclass(frozen=True)
class ProlongedStay(Settings):
    """The objective of prolonged stays (Rasmy et al. 2021): whether any stay of the history was long.

    Attributes:
        enabled: Whether it is trained.
        weight: What its loss is multiplied by.
        threshold_days: A stay of more days is prolonged. The tutorial's examples have theirs written: 7.
    """

    enabled: bool = True
    weight: Positive = 1.0
    threshold_days: Natural = PROLONGED_STAY_DAYS


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
        masked_codes: The objective of masked codes.
        prolonged_stay: The objective of prolonged stays.
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
    masked_codes: MaskedCodes = MaskedCodes()
    prolonged_stay: ProlongedStay = ProlongedStay()
    optimizer: Optimizer = Optimizer()
    phases: tuple[Phase, ...] = (Phase(),)
    evaluation: EvaluationSettings = EvaluationSettings()
    checkpoints: Checkpointing = Checkpointing()
    early_stopping: EarlyStopping = EarlyStopping()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.phases:
            raise UserError("phases is empty: a training has one [[phases]] at least")
        if not (self.masked_codes.enabled or self.prolonged_stay.enabled):
            raise UserError("masked_codes and prolonged_stay are both not enabled: train one of them")
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
