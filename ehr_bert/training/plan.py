"""What a training will take, told before it is begun: work, memory, time.

Legend: P parameters, N positions of a device's micro-batch, M masked codes, V vocabulary, H hidden width,
I inner width, A heads, L blocks, T positions of a window, c bytes of a computed number (4, in bfloat16 2).

Memory is an estimate of the least that a device holds at its fullest, in bytes:

    weights       4 P, and 2 P for the copy that bfloat16 computes with
    gradients     4 P, and again 4 P where micro-batches are added up
    moments       8 P
    activations   L (N (c (6 H + 2 I) + 8 H) + A N T (4 + c))
                  min(M, 1024) V (4 + 2 c)

Of activations the first line is what the blocks keep for the backward pass: their input, queries, keys,
values, what attention saw, both parts' sums, the feed-forward part within, and attention's weights before and
after dropout. The second are the scores of a piece of the masked codes (`vocabulary_loss`). Libraries,
compilers and evaluations take more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ehr_bert.errors import UserError
from ehr_bert.examples import packed
from ehr_bert.examples.layout import Layout
from ehr_bert.examples.source import ExamplesInfo
from ehr_bert.examples.updates import BatchSize, smallest_fitting
from ehr_bert.files import read_json
from ehr_bert.model.config import ModelConfig
from ehr_bert.training.flops import training_flops
from ehr_bert.training.initial import read_pretrained, takes_shape
from ehr_bert.training.inputs import FeatureSource, open_inputs
from ehr_bert.training.phases import plan_phases
from ehr_bert.training.recipe import Phase, Recipe
from ehr_bert.training.vocabulary_loss import PIECE_ROWS


@dataclass(frozen=True)
class Memory:
    """What a device holds at least, in bytes; an estimate, see above.

    Attributes:
        weights: The model's.
        gradients: Those of an update.
        moments: The optimizer's.
        activations: What a micro-batch leaves for its backward pass, and the scores of masked codes.
    """

    weights: int
    gradients: int
    moments: int
    activations: int

    @property
    def total(self) -> int:
        """All together."""
        return self.weights + self.gradients + self.moments + self.activations


@dataclass(frozen=True)
class PhaseWork:
    """What a phase takes.

    Attributes:
        updates: How many.
        micro_batches: Those of an update that each device computes.
        layout: The shape of such a micro-batch.
        examples: Patients that are seen, one as often as it is; windows, where no features are known.
        positions: Positions that are computed.
        real_tokens: Those that are no padding.
        masked_codes: Codes that are predicted.
        flops: Operations of the model's matrix products, see `training_flops`.
        memory: Of a device.
    """

    updates: int
    micro_batches: int
    layout: Layout
    examples: float
    positions: int
    real_tokens: float
    masked_codes: float
    flops: float
    memory: Memory


@dataclass(frozen=True)
class Plan:
    """What a training takes.

    Attributes:
        config: The model's shape.
        devices: How many share an update.
        precision: Of the computation.
        of_patients: Whether examples are patients of known features, or nominal windows.
        phases: By phase.
    """

    config: ModelConfig
    devices: int
    precision: str
    of_patients: bool
    phases: tuple[PhaseWork, ...]


def parameters(config: ModelConfig) -> int:
    """Weights of a model, all of them trained; those of the vocabulary are left out where it is unknown."""
    hidden, inner, vocabulary = config.hidden_size, config.intermediate_size, config.vocab_size or 0
    norm, square = 2 * hidden, hidden**2 + hidden
    tables = (vocabulary + config.max_position_embeddings + config.type_vocab_size) * hidden
    block = 4 * square + 2 * norm + (hidden + 1) * inner + (inner + 1) * hidden
    masked_codes = square + norm + vocabulary
    stay = square + 2 * hidden + 2
    return tables + norm + config.num_hidden_layers * block + masked_codes + stay


def plan_from_recipe(recipe: Recipe, devices: int, fill: float = 1.0) -> Plan:
    """The plan of a recipe by itself: each example is a window as long as the phase's, filled to a share.

    Args:
        recipe: The recipe; where it has no `vocab_size`, what depends on that is left out.
        devices: How many share an update.
        fill: The share of a window's positions that hold real tokens.

    Raises:
        UserError: a phase is as long as its examples, which nobody knows here.
    """
    for number, phase in enumerate(recipe.phases, 1):
        if phase.steps is None:
            raise UserError(
                f"phases.{number}.epochs depends on the examples: name them (--features), or state steps"
            )
    phases = tuple(_nominal_work(recipe, phase, devices, fill) for phase in recipe.phases)
    return Plan(recipe.model, devices, _precision(recipe), of_patients=False, phases=phases)


def _nominal_work(recipe: Recipe, phase: Phase, devices: int, fill: float) -> PhaseWork:
    """The work of a phase whose examples are windows of its length."""
    length = phase.max_seq_length or recipe.model.max_position_embeddings
    windows = phase.batch_patients or max(1, round((phase.batch_tokens or 0) / (fill * length)))

    def windows_of(micro_batches: int) -> int:
        return -(-windows // (micro_batches * devices))

    micro_batches = smallest_fitting(windows, phase.micro_batch_tokens, lambda k: windows_of(k) * length)
    own = windows_of(micro_batches)
    tokens = fill * windows * length
    return _phase_work(
        recipe,
        phase.steps or 0,
        micro_batches,
        Layout(((own, length),), masked=round(_masked(recipe, own * length, own)), patients=own),
        positions=windows * length,
        examples=windows,
        real_tokens=tokens,
        masked_codes=_masked(recipe, tokens, windows),
    )


def plan_from_features(recipe: Recipe, features: Sequence[FeatureSource], devices: int) -> Plan:
    """The plan of a recipe for examples that are there.

    Args:
        recipe: The recipe.
        features: The examples, as a training takes them.
        devices: How many share an update.

    Raises:
        UserError: the examples and the recipe don't fit together.
    """
    parent = read_pretrained(Path(recipe.init)) if recipe.init and takes_shape(recipe.model) else None
    inputs = open_inputs(recipe, features, parent=parent)
    recipe = inputs.recipe
    phases = []
    for planned, mixture in zip(plan_phases(inputs, devices), inputs.train, strict=True):
        phase, updates = planned.phase, planned.updates
        fractions = mixture.fractions(BatchSize(phase.batch_patients, phase.batch_tokens))
        parts = [(float(fractions[name]), examples.info) for name, examples in mixture.corpora.items()]
        phases.append(
            _phase_work(
                recipe,
                planned.steps,
                updates.micro_batches,
                updates.layout,
                positions=updates.micro_batches * devices * updates.layout.positions,
                examples=sum(part * info.patients for part, info in parts),
                real_tokens=sum(part * info.real_tokens for part, info in parts),
                masked_codes=sum(part * _masked_of(recipe, info) for part, info in parts),
            )
        )
    return Plan(recipe.model, devices, _precision(recipe), of_patients=True, phases=tuple(phases))


def device_flops_per_second(summary_file: Path) -> float:
    """What a device reached in another training, as its `summary.json` tells.

    Raises:
        UserError: the file tells of no speed.
    """
    summary = read_json(summary_file)
    rate, share = summary.get("product_rate"), summary.get("model_flops_utilisation")
    if not rate or not share:
        raise UserError(
            f"{summary_file} tells of no speed (its training was told to stop, or was too short): name "
            "another, or give --tokens-per-second"
        )
    return float(rate["flops_per_second"] * share)


def _phase_work(
    recipe: Recipe,
    updates: int,
    micro_batches: int,
    layout: Layout,
    *,
    positions: int,
    examples: float,
    real_tokens: float,
    masked_codes: float,
) -> PhaseWork:
    """The work of so many updates, each of which takes so many positions, examples, tokens and codes."""
    patients = examples if recipe.prolonged_stay.enabled else 0.0
    return PhaseWork(
        updates=updates,
        micro_batches=micro_batches,
        layout=layout,
        examples=updates * examples,
        positions=updates * positions,
        real_tokens=updates * real_tokens,
        masked_codes=updates * masked_codes,
        flops=updates * training_flops(recipe.model, layout, real_tokens, masked_codes, patients),
        memory=_memory(recipe, layout, micro_batches),
    )


def _masked(recipe: Recipe, tokens: float, patients: float) -> float:
    """Codes that are masked of so many tokens, of which each patient's first is `[CLS]`."""
    return recipe.masked_codes.probability * (tokens - patients) if recipe.masked_codes.enabled else 0.0


def _masked_of(recipe: Recipe, info: ExamplesInfo) -> float:
    """Codes that are masked in an epoch; those of the tutorial's examples were chosen before."""
    if info.kind == packed.PACKED:
        return _masked(recipe, info.real_tokens, info.patients)
    return float(info.patients * (info.max_predictions_per_seq or 0)) if recipe.masked_codes.enabled else 0.0


def _precision(recipe: Recipe) -> str:
    """That of the computation; `auto` counts as on GPUs and TPUs."""
    return "bfloat16" if recipe.precision == "auto" else recipe.precision


def _memory(recipe: Recipe, layout: Layout, micro_batches: int) -> Memory:
    config, count = recipe.model, parameters(recipe.model)
    in_bfloat16 = _precision(recipe) == "bfloat16"
    number = 2 if in_bfloat16 else 4  # c
    hidden, inner, heads = config.hidden_size, config.intermediate_size, config.num_attention_heads
    by_position = number * (6 * hidden + 2 * inner) + 8 * hidden
    weights_of_attention = (
        heads * (4 + number) * sum(windows * length**2 for windows, length in layout.windows)
    )
    kept = config.num_hidden_layers * (layout.positions * by_position + weights_of_attention)
    scores = min(layout.masked, PIECE_ROWS) * (config.vocab_size or 0) * (4 + 2 * number)
    return Memory(
        weights=count * (6 if in_bfloat16 else 4),
        gradients=count * (8 if micro_batches > 1 else 4),
        moments=count * 8,
        activations=kept + scores,
    )
