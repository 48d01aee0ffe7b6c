"""The training loop, from the newest checkpoint to the last update, phase by phase."""

import os
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from itertools import accumulate

import keras
import numpy as np
import tensorflow as tf

from ehr_bert.model.pretraining import PretrainingModel
from ehr_bert.training.evaluation import EvaluationResult, write_eval_results
from ehr_bert.training.flops import training_flops
from ehr_bert.training.interruption import Interruption
from ehr_bert.training.optimizer import build_optimizer, clear_moments
from ehr_bert.training.phases import PhasePlan
from ehr_bert.training.profiling import Profile
from ehr_bert.training.recipe import Recipe
from ehr_bert.training.record.checkpoints import BEST, FIRST_WEIGHTS, Checkpoints, has_checkpoint, phase_mark
from ehr_bert.training.record.folder import TrainingFolder
from ehr_bert.training.record.metrics_log import MetricsLog
from ehr_bert.training.record.progress import MIXTURE, Progress, Work
from ehr_bert.training.schedule import PhasedSchedule
from ehr_bert.training.step import Sums, build_train_step, corpus_sums
from ehr_bert.training.streams import distributed_cells


class StopReason(StrEnum):
    """Reason why a training run ended."""

    FINISHED = "finished"
    EARLY_STOP = "early stop"
    INTERRUPTED = "interrupted"

    @property
    def exit_code(self) -> int:
        """Exit status of the process: 0, or 75 if the training run was interrupted and can be resumed."""
        return os.EX_TEMPFAIL if self == StopReason.INTERRUPTED else os.EX_OK


@dataclass(frozen=True)
class TrainingOutcome:
    """The outcome of a training run.

    Attributes:
        steps: Number of updates of the model, over all processes.
        reason: Why the training run ended.
        evaluation: Evaluation after the last update. None if none was requested, or after an interruption.
        unreported: Sums since the last report.
    """

    steps: int
    reason: StopReason
    evaluation: EvaluationResult | None
    unreported: dict[str, float]


def train(
    model: PretrainingModel,
    recipe: Recipe,
    plans: Sequence[PhasePlan],
    folder: TrainingFolder,
    strategy: tf.distribute.Strategy,
    *,
    compiled: bool,
    evaluate: Callable[[int], EvaluationResult] | None = None,
    profile: bool = False,
) -> TrainingOutcome:
    """Train `model` in place, and resume from the newest checkpoint in `folder` if there is one.

    A run that is killed at any time and resumed ends with the same weights as an uninterrupted one. If
    several workers train together, all of them call this function and one writes.

    Args:
        model: Model, built under `strategy`.
        recipe: Settings of the training run.
        plans: Phases of the recipe.
        folder: Training folder.
        strategy: Strategy under which the model was built.
        compiled: As in `build_train_step`.
        evaluate: Evaluates the model, given the number of updates so far.
        profile: Whether to profile a few updates for TensorBoard.

    Raises:
        UserError: The folder cannot be written (key `cannot-write`), it has a checkpoint of another model
            (`checkpoint-mismatch`), or the loss or gradient of three consecutive updates was not finite
            (`not-finite`). The last checkpoint is valid in all cases.
    """
    return _TrainingRun(model, recipe, plans, folder, strategy, compiled, evaluate).run(profile)


class _TrainingRun:
    """One process of a training run."""

    def __init__(
        self,
        model: PretrainingModel,
        recipe: Recipe,
        plans: Sequence[PhasePlan],
        folder: TrainingFolder,
        strategy: tf.distribute.Strategy,
        compiled: bool,
        evaluate: Callable[[int], EvaluationResult] | None,
    ):
        self.model = model
        self.recipe = recipe
        self.objectives = recipe.enabled_objectives()
        self.plans = plans
        self.folder = folder
        self.strategy = strategy
        self.compiled = compiled
        self.evaluate = evaluate
        steps = [plan.steps for plan in plans]
        self.ends = tuple(accumulate(steps))
        self.total = self.ends[-1]
        self.schedule = PhasedSchedule([plan.phase for plan in plans], steps)
        with strategy.scope():
            self.optimizer: keras.optimizers.Optimizer = build_optimizer(
                recipe, steps, model.trainable_variables
            )
        self.chief = strategy.extended.should_checkpoint
        self.evaluation: EvaluationResult | None = None

    def run(self, profile: bool) -> TrainingOutcome:
        keep = self.recipe.checkpoints.keep
        with (
            Interruption(self.strategy) as self.interruption,
            Checkpoints(self.folder.path, self.model, self.optimizer, keep, self.chief) as self.checkpoints,
            Profile(self.folder.events if profile and self.chief else None) as profiled,
        ):
            step, state = self.checkpoints.restore()
            self.saved = step if has_checkpoint(self.folder.path) else None
            self.saved_at = time.monotonic()
            self.log = MetricsLog(self.folder, self.chief)
            self.log.truncate_after(step)
            with Progress(
                self.log,
                step,
                self.total,
                self.recipe.report_every,
                lambda step: float(self.schedule(step)),
                state,
                self.objectives.values(),
                self.chief,
            ) as self.progress:
                if step:
                    self.progress.log(f"resuming from the checkpoint at step {step:,} in {self.folder.path}")
                    if self.log.best_step() == step:
                        self.checkpoints.mark(BEST, step)
                reason = self._after(step)
                updates = self._updates(step)
                first = step
                while reason is None:
                    profiled.update(step - first)
                    sums = next(updates)
                    step += 1
                    self.progress.step(step, sums)
                    reason = self._after(step)
                return TrainingOutcome(step, reason, self.evaluation, self.progress.state())

    def _updates(self, step: int) -> Iterator[Sums]:
        """Make the updates after `step`, and yield the sums of each."""
        for number, (plan, end) in enumerate(zip(self.plans, self.ends, strict=True), 1):
            if step >= end:
                continue
            if step == end - plan.steps:
                self._begin_phase(number)
            updates = plan.updates
            names = {
                name: f"{MIXTURE}{number}/{list(plan.shares)[corpus]}/{counts.removeprefix('corpus_')}"
                for name, (counts, corpus) in corpus_sums(updates.layout.corpora).items()
            }
            cells = updates.micro_batches * self.strategy.num_replicas_in_sync
            flops = partial(training_flops, self.model.config, updates.layout, self.objectives.values())
            self.progress.begin(Work(cells * updates.layout.positions, flops))
            train_step = build_train_step(
                self.strategy,
                self.model,
                self.optimizer,
                updates.layout,
                updates.micro_batches,
                self.objectives,
                self.recipe.optimizer.clip_norm,
                self.compiled,
            )
            batches = iter(distributed_cells(self.strategy, updates, step - (end - plan.steps)))
            while step < end:
                yield {names.get(name, name): value for name, value in train_step(batches).items()}
                step += 1

    def _begin_phase(self, number: int) -> None:
        """Reset the state that a phase does not carry over from the previous phase.

        This happens at the first update of the phase, in whichever process that is.
        """
        carried = self.plans[number - 1].phase.carry_over
        if carried == "nothing":
            self.checkpoints.restore_weights(FIRST_WEIGHTS)
        if carried != "moments":
            clear_moments(self.optimizer)

    def _after(self, step: int) -> StopReason | None:
        """Evaluate, save and mark checkpoints as due after an update. Return the reason to stop, if any.

        This is also called when a training run is resumed, for what an earlier process did not complete.
        """
        last = step == self.total
        every, patience = self.recipe.evaluation.every_steps, self.recipe.early_stopping.patience
        interrupted = self.interruption.requested()
        if not interrupted and (
            last or (step and every and step % every == 0 and step not in self.log.losses)
        ):
            self._evaluate(step)
            interrupted = not last and self.interruption.requested()
        reason = None
        if interrupted:
            reason = StopReason.INTERRUPTED
            sender = self.interruption.signal_name or "another worker"
            self.progress.log(f"interrupted by {sender}. Run the same command again to resume.")
        elif last:
            reason = StopReason.FINISHED
        elif patience and self.log.evaluations_since_best() >= patience:
            reason = StopReason.EARLY_STOP
            self.progress.log(f"early stop: {patience} consecutive evaluations without a lower loss")
            if self.evaluation is None:  # an earlier process has ended the training run
                self._evaluate(step)
            self.progress.report(step)
        if reason or self._save_is_due(step):
            self._save(step)
        self._mark_phase(step, reason)
        return reason

    def _mark_phase(self, step: int, reason: StopReason | None) -> None:
        """Mark the checkpoint at the end of a phase, if there are several phases.

        The initial weights are marked too if a phase starts from them.
        """
        if len(self.plans) == 1:
            return
        if step in self.ends or reason == StopReason.EARLY_STOP:
            self._save(step)
            self.checkpoints.mark(phase_mark(1 + bisect_left(self.ends, step)), step)
        elif step == 0 and any(plan.phase.carry_over == "nothing" for plan in self.plans):
            self._save(step)
            self.checkpoints.mark(FIRST_WEIGHTS, step)

    def _save_is_due(self, step: int) -> bool:
        checkpoints = self.recipe.checkpoints
        minutes = (time.monotonic() - self.saved_at) / 60
        return step > 0 and (step % checkpoints.every_steps == 0 or minutes >= checkpoints.every_minutes)

    def _save(self, step: int) -> None:
        if step != self.saved:
            self.checkpoints.save(step, self.progress.state())
            self.saved, self.saved_at = step, time.monotonic()

    def _evaluate(self, step: int) -> None:
        """Evaluate. The state is saved first, so that no update is lost if the evaluation is interrupted."""
        if self.evaluate is None:
            return
        with self.progress.paused():
            self._save(step)
            self.evaluation = self.evaluate(step)
            if step not in self.log.losses:
                self.log.write(step, "eval", self.evaluation.figures())
                self.log.histograms(step, _histogram_weights(self.model))
                if self.log.best_step() == step:
                    self.checkpoints.mark(BEST, step)
            if self.chief:
                write_eval_results(self.folder, self.evaluation)
        if step < self.total:  # the caller reports the last evaluation
            self.progress.log(str(self.evaluation))


def _histogram_weights(model: PretrainingModel) -> dict[str, np.ndarray]:
    """Return the weights to show: token embeddings, kernels of the first and last block, output bias."""
    blocks = model.encoder.blocks
    variables = [*blocks[0].trainable_variables]
    if len(blocks) > 1:
        variables += blocks[-1].trainable_variables
    kernels = {
        variable.path.partition("/")[2]: variable for variable in variables if variable.name == "kernel"
    }
    table, bias = model.output_table()
    return {
        name: variable.value.numpy()
        for name, variable in {"token_embeddings": table, "output_bias": bias, **kernels}.items()
    }
