"""The training loop: from the newest checkpoint to the last step."""

from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from ehr_bert.model.pretraining import PretrainingModel
from ehr_bert.training.checkpoints import Checkpoints
from ehr_bert.training.folder import TrainingFolder
from ehr_bert.training.metrics_log import MetricsLog
from ehr_bert.training.optimizer import build_optimizer
from ehr_bert.training.progress import Progress
from ehr_bert.training.recipe import Recipe
from ehr_bert.training.step import build_train_step


def train(
    model: PretrainingModel,
    recipe: Recipe,
    batches_from: Callable[[int], tf.data.Dataset],
    folder: Path,
    strategy: tf.distribute.Strategy,
    checkpoint_every: int,
    report_every: int,
) -> int:
    """Trains `model` in place, on from the newest checkpoint in `folder` if there is one.

    Killed at any moment and started again, it ends with the same weights as if it had run through.

    Args:
        model: Made under `strategy`.
        recipe: How to train.
        batches_from: Gives the endless batches from a step on, counted from 0.
        folder: The training folder.
        strategy: Where to train.
        checkpoint_every: Steps between checkpoints; the last step always makes one.
        report_every: Steps between reports.

    Returns:
        The number of updates that the model has had.
    """
    with strategy.scope():
        optimizer = build_optimizer(recipe, model.trainable_variables)
    checkpoints = Checkpoints(folder, model, optimizer)
    first = checkpoints.restore()
    if first:
        print(f"going on from the checkpoint at step {first:,} in {folder}", flush=True)
    if first >= recipe.steps:
        return first
    batches = strategy.experimental_distribute_dataset(batches_from(first))
    train_step = build_train_step(strategy, model, optimizer, recipe.clip_norm)
    log = MetricsLog(TrainingFolder(folder))
    log.cut_back(first)
    with Progress(log, first, recipe.steps, report_every) as progress:
        for step, batch in zip(range(first + 1, recipe.steps + 1), batches, strict=False):
            learning_rate = float(optimizer.learning_rate)
            sums = train_step(batch)
            progress.step(step, sums, learning_rate)
            if step % checkpoint_every == 0 or step == recipe.steps:
                checkpoints.save(step)
    return recipe.steps
