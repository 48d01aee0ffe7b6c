"""Estimates of the work, memory and time of a training run, made before it starts.

The memory is a lower bound of the peak per device, in bytes. A micro-batch has P positions and M masked
positions, and a window has T tokens. A, H, I and V are as in the legend of the library:

    weights       4 w, and 2 w for the copy in bfloat16, where w is the number of weights
    gradients     4 w, and another 4 w if micro-batches are accumulated
    moments       8 w
    activations   blocks * (P (c (6 H + 2 I) + 8 H) + A P T (4 + c))
                  min(M, 1024) V (4 + 2 c)

where c is the size of a computed number: 4, or 2 in bfloat16. The first line of the activations is what each
block keeps for the backward pass: its input, queries, keys, values, attention output, both residual sums, the
hidden layer of the feed-forward network, and the attention weights before and after dropout. The second line
is the scores of one piece of the masked codes (`vocabulary_loss`). Libraries, compilation and evaluation need
additional memory.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ehr_bert.errors import UserError
from ehr_bert.examples.layout import Layout
from ehr_bert.examples.updates import BatchSize, smallest_fitting
from ehr_bert.files import read_json
from ehr_bert.model.config import ModelConfig
from ehr_bert.model.pretraining import smallest_batch
from ehr_bert.objectives.objective import Objective
from ehr_bert.objectives.vocabulary_loss import PIECE_ROWS
from ehr_bert.training.flops import training_flops
from ehr_bert.training.initial import read_pretrained, takes_shape
from ehr_bert.training.inputs import FeatureSource, open_inputs
from ehr_bert.training.phases import plan_phases
from ehr_bert.training.recipe import Phase, Recipe


@dataclass(frozen=True)
class Memory:
    """Estimated minimum memory per device, in bytes.

    Attributes:
        weights: Weights of the model.
        gradients: Gradients of an update.
        moments: Moments of the optimizer.
        activations: Activations that a micro-batch keeps for its backward pass, and scores of masked codes.
    """

    weights: int
    gradients: int
    moments: int
    activations: int

    @property
    def total(self) -> int:
        """Sum of all parts."""
        return self.weights + self.gradients + self.moments + self.activations


@dataclass(frozen=True)
class PhaseWork:
    """Work and memory of one phase.

    Attributes:
        updates: Number of updates.
        micro_batches: Number of micro-batches per update and device.
        layout: Shape of a micro-batch.
        examples: Number of patients read, counted once per epoch. Number of windows if there are no features.
        positions: Number of positions computed.
        real_tokens: Number of positions without padding.
        predictions: Number of predictions of each objective, by its title.
        flops: Operations of matrix products, see `training_flops`.
        memory: Memory per device.
    """

    updates: int
    micro_batches: int
    layout: Layout
    examples: float
    positions: int
    real_tokens: float
    predictions: Mapping[str, float]
    flops: float
    memory: Memory


@dataclass(frozen=True)
class Plan:
    """Work and memory of a training run.

    Attributes:
        config: Shape of the model.
        parameters: Number of weights.
        devices: Number of devices that share an update.
        precision: Precision of the computation.
        of_patients: Whether `examples` counts the patients of features, or nominal windows.
        phases: Work of each phase.
    """

    config: ModelConfig
    parameters: int
    devices: int
    precision: str
    of_patients: bool
    phases: tuple[PhaseWork, ...]


def parameters(config: ModelConfig, additional_heads: Iterable[Objective[Any]] = ()) -> int:
    """Return the number of trained weights. Those of an unknown vocabulary are not counted.

    Args:
        config: Shape of the model.
        additional_heads: Objectives whose heads stock BERT does not have.
    """
    hidden, inner, vocabulary = config.hidden_size, config.intermediate_size, config.vocab_size or 0
    norm, square = 2 * hidden, hidden**2 + hidden
    tables = (vocabulary + config.max_position_embeddings + config.type_vocab_size) * hidden
    block = 4 * square + 2 * norm + (hidden + 1) * inner + (inner + 1) * hidden
    masked_codes = square + norm + vocabulary
    stay = square + 2 * hidden + 2
    additional = sum(_head_parameters(objective, config) for objective in additional_heads)
    return tables + norm + config.num_hidden_layers * block + masked_codes + stay + additional


def _head_parameters(objective: Objective[Any], config: ModelConfig) -> int:
    head = objective.head(dataclasses.replace(config, vocab_size=config.vocab_size or 1), name=objective.name)
    batch, layout = smallest_batch([objective])
    head(np.zeros((2, config.hidden_size), np.float32), batch, layout=layout)
    return int(head.count_params())


def plan_from_recipe(recipe: Recipe, devices: int, fill: float = 1.0) -> Plan:
    """Return the plan of a recipe without examples, as if each example filled one window of the phase.

    Args:
        recipe: Recipe. Without `vocab_size`, everything that depends on it is left out.
        devices: Number of devices that share an update.
        fill: Share of a window's positions that hold real tokens.

    Raises:
        UserError: The length of a phase depends on the examples (key `missing-features`).
    """
    for number, phase in enumerate(recipe.phases, 1):
        if phase.steps is None:
            raise UserError(
                "missing-features",
                f"phases.{number}.epochs cannot be planned without examples. Name them (--features), or set "
                "steps.",
            )
    phases = tuple(_nominal_work(recipe, phase, devices, fill) for phase in recipe.phases)
    return _plan(recipe, devices, phases, of_patients=False)


def _nominal_work(recipe: Recipe, phase: Phase, devices: int, fill: float) -> PhaseWork:
    """Return the work of a phase whose examples are windows of its length."""
    length = phase.max_seq_length or recipe.model.max_position_embeddings
    windows = phase.batch_patients or max(1, round((phase.batch_tokens or 0) / (fill * length)))

    def windows_of(micro_batches: int) -> int:
        return -(-windows // (micro_batches * devices))

    micro_batches = smallest_fitting(windows, phase.micro_batch_tokens, lambda k: windows_of(k) * length)
    device_windows = windows_of(micro_batches)
    tokens = fill * windows * length
    return _phase_work(
        recipe,
        phase.steps or 0,
        micro_batches,
        Layout(
            ((device_windows, length),),
            masked=_masked_slots(recipe, device_windows * length, device_windows),
            patients=device_windows,
        ),
        positions=windows * length,
        examples=windows,
        real_tokens=tokens,
        predictions={
            name: objective.expected_count(tokens, windows, None)
            for name, objective in recipe.enabled_objectives().items()
        },
    )


def plan_from_features(recipe: Recipe, features: Sequence[FeatureSource], devices: int) -> Plan:
    """Return the plan of a recipe for existing examples.

    Args:
        recipe: Recipe.
        features: Examples, as for a training run.
        devices: Number of devices that share an update.

    Raises:
        UserError: The examples and the recipe do not fit together.
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
                predictions={
                    name: sum(
                        part * objective.expected_count(info.real_tokens, info.patients, info)
                        for part, info in parts
                    )
                    for name, objective in recipe.enabled_objectives().items()
                },
            )
        )
    return _plan(recipe, devices, phases, of_patients=True)


def device_flops_per_second(summary_file: Path) -> float:
    """Return the speed per device of another training run, from its `summary.json`.

    Raises:
        UserError: The file has no speed (key `no-speed`).
    """
    summary = read_json(summary_file)
    rate, share = summary.get("product_rate"), summary.get("model_flops_utilisation")
    if not rate or not share:
        raise UserError(
            "no-speed",
            f"{summary_file} has no speed, because its training run was interrupted or too short. Name "
            "another file, or use --tokens-per-second.",
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
    predictions: Mapping[str, float],
) -> PhaseWork:
    """Return the work of `updates` updates. The keyword arguments are counts per update."""
    objectives = recipe.enabled_objectives()
    counts = {f"{objective.prefix}_count": predictions[name] for name, objective in objectives.items()}
    sums = {"real_tokens": real_tokens, **counts}
    return PhaseWork(
        updates=updates,
        micro_batches=micro_batches,
        layout=layout,
        examples=updates * examples,
        positions=updates * positions,
        real_tokens=updates * real_tokens,
        predictions={objectives[name].title: updates * count for name, count in predictions.items()},
        flops=updates * training_flops(recipe.model, layout, objectives.values(), sums),
        memory=_memory(recipe, layout, micro_batches),
    )


def _masked_slots(recipe: Recipe, tokens: float, patients: float) -> int:
    """Return the number of masked codes that are predicted in a micro-batch."""
    objective = recipe.enabled_objectives().get("masked_codes")
    return round(objective.expected_count(tokens, patients, None)) if objective else 0


def _plan(recipe: Recipe, devices: int, phases: Iterable[PhaseWork], of_patients: bool) -> Plan:
    return Plan(recipe.model, _parameters(recipe), devices, _precision(recipe), of_patients, tuple(phases))


def _parameters(recipe: Recipe) -> int:
    return parameters(recipe.model, recipe.additional_heads().values())


def _precision(recipe: Recipe) -> str:
    """Return the precision of the computation. `auto` is taken as on GPUs and TPUs."""
    return "bfloat16" if recipe.precision == "auto" else recipe.precision


def _memory(recipe: Recipe, layout: Layout, micro_batches: int) -> Memory:
    config, count = recipe.model, _parameters(recipe)
    in_bfloat16 = _precision(recipe) == "bfloat16"
    number = 2 if in_bfloat16 else 4  # c
    hidden, inner, heads = config.hidden_size, config.intermediate_size, config.num_attention_heads
    by_position = number * (6 * hidden + 2 * inner) + 8 * hidden
    weights_of_attention = (
        heads * (4 + number) * sum(windows * length**2 for windows, length in layout.windows)
    )
    saved = config.num_hidden_layers * (layout.positions * by_position + weights_of_attention)
    scores = min(layout.masked, PIECE_ROWS) * (config.vocab_size or 0) * (4 + 2 * number)
    return Memory(
        weights=count * (6 if in_bfloat16 else 4),
        gradients=count * (8 if micro_batches > 1 else 4),
        moments=count * 8,
        activations=saved + scores,
    )
