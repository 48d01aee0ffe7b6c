"""Phases of a training run: their batches, settings for reading the examples, and number of updates."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ehr_bert.examples import packed
from ehr_bert.examples.source import ExamplesInfo, Reading
from ehr_bert.examples.training_masking import TrainingMasking
from ehr_bert.examples.updates import BatchSize, UpdateBatches
from ehr_bert.logs import warn
from ehr_bert.training.inputs import PretrainingInputs
from ehr_bert.training.recipe import Phase, Recipe

logger = logging.getLogger(__name__)

MANY_EPOCHS = 50
"""A phase with more epochs is likely to overfit, and gets a warning."""


@dataclass(frozen=True)
class PhasePlan:
    """A phase that is ready to be trained.

    Attributes:
        updates: Batches.
        steps: Number of updates.
        phase: The phase as the recipe states it.
        shares: For a mixture, the share of each corpus by name, in the order of the batches' counts.
    """

    updates: UpdateBatches
    steps: int
    phase: Phase
    shares: Mapping[str, float] = field(default_factory=dict)


def plan_phases(inputs: PretrainingInputs, replicas: int) -> list[PhasePlan]:
    """Return the phases of the recipe, ready to be trained on `replicas` devices."""
    plans = []
    recipe = inputs.recipe
    for number, (phase, mixture) in enumerate(zip(recipe.phases, inputs.train, strict=True)):
        updates = mixture.updates(
            reading_of(recipe, phase),
            batch=batch_size(phase),
            micro_batch_tokens=phase.micro_batch_tokens,
            replicas=replicas,
            seed=(recipe.seed, number),
        )
        steps = phase.steps or math.ceil((phase.epochs or 0) * updates.updates_per_epoch)
        shares = {name: float(share) for name, share in mixture.shares.items()}
        plans.append(PhasePlan(updates, steps, phase, shares if len(shares) > 1 else {}))
    return plans


def batch_size(phase: Phase) -> BatchSize:
    """Return the batch size of a phase, in patients or in tokens."""
    return BatchSize(phase.batch_patients, phase.batch_tokens)


def reading_of(recipe: Recipe, phase: Phase) -> Reading:
    """Return how the examples of a phase are read: cut to its windows, masked and labelled."""
    masked = recipe.masked_codes
    return Reading(
        max_visits=recipe.model.type_vocab_size,
        masking=TrainingMasking(masked.probability, masked.mask_share, masked.random_share),
        labels=tuple(recipe.enabled_objectives().values()),
        max_seq_length=phase.max_seq_length,
    )


def log_phases(inputs: PretrainingInputs, plans: Sequence[PhasePlan]) -> None:
    """Log the size of each phase, and warn where its settings are probably a mistake."""
    for number, (plan, mixture) in enumerate(zip(plans, inputs.train, strict=True), 1):
        phase, updates = plan.phase, plan.updates
        epochs = plan.steps / updates.updates_per_epoch
        batch = (
            f"{phase.batch_patients:,} patients" if phase.batch_patients else f"{phase.batch_tokens:,} tokens"
        )
        logger.info(
            f"phase {number} of {len(plans)}: {plan.steps:,} updates of {batch} ({epochs:,.1f} epochs), "
            f"each {updates.micro_batches} x {updates.layout.positions:,} positions per device"
        )
        if plan.shares:
            fractions = mixture.fractions(batch_size(phase))
            corpora = ", ".join(
                f"{share:.1%} {name} ({float(plan.steps * fractions[name]):,.1f} epochs)"
                for name, share in plan.shares.items()
            )
            logger.info(f"  mixture: {corpora}")
        for examples in mixture.corpora.values():
            _warn_of_length(number, phase, examples.info)
        if epochs > MANY_EPOCHS:
            warn(
                logger,
                "many-epochs",
                f"phase {number} reads each patient {epochs:,.0f} times, so the model may overfit. Watch the "
                "held-out loss, train for fewer steps, or set early_stopping.patience.",
            )
        if phase.warmup(plan.steps) >= plan.steps:
            warn(
                logger,
                "warmup-fills-phase",
                f"the warm-up of phase {number} is as long as the phase, so the learning rate never reaches "
                "its peak. Train for more steps, or lower warmup_steps.",
            )


def _warn_of_length(number: int, phase: Phase, info: ExamplesInfo) -> None:
    """Warn if the windows of a phase are longer than its examples, or shorter."""
    longest = phase.max_seq_length
    if info.kind == packed.PACKED and longest and longest > info.max_seq_length:
        warn(
            logger,
            "shorter-examples",
            f"phases.{number}.max_seq_length is {longest}, but the examples are packed in windows of up to "
            f"{info.max_seq_length} tokens. Lower it, or pack longer windows (`ehr-bert features "
            f"--max-seq-length {longest}`).",
        )
    if longest and info.longest > longest:
        warn(
            logger,
            "examples-truncated",
            f"some examples have up to {info.longest} tokens. Phase {number} truncates them to {longest}. "
            f"To keep all tokens, increase phases.{number}.max_seq_length.",
        )
