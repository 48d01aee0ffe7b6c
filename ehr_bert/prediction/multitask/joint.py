"""All tasks trained together: one encoder, a head each, and in each update examples of one task alone."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import nn

from ehr_bert.prediction.batches import PaddedBatch
from ehr_bert.prediction.encoders import HistoryEncoder
from ehr_bert.prediction.fitting import Fitted, learn, predict_logits
from ehr_bert.prediction.multitask.data import TaskData
from ehr_bert.prediction.multitask.labels import loss_of, score_of
from ehr_bert.prediction.multitask.sampling import TaskSampler, endless_batches
from ehr_bert.prediction.optimization import FitSettings, OptimizerStep, Runtime, parameter_groups
from ehr_bert.prediction.predictor import Predictor
from ehr_bert.schemas import Split


class JointPredictor(nn.Module):
    """Predictors that share one encoder.

    Args:
        encoder: The encoder.
        data: The tasks.
        head: The name of the heads; visits have one of their own.
        seed: Decides the heads' weights.

    Attributes:
        encoder: The encoder.
        predictors: One a task, in the order of the tasks.
    """

    def __init__(self, encoder: HistoryEncoder, data: Sequence[TaskData], head: str, seed: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.predictors = nn.ModuleList([each.predictor(encoder, head, seed) for each in data])

    @property
    def heads(self) -> nn.ModuleList:
        """The tasks' heads."""
        return nn.ModuleList([self.of(task).head for task in range(len(self.predictors))])

    def of(self, task: int) -> Predictor:
        """The predictor of a task, by its number."""
        predictor = self.predictors[task]
        assert isinstance(predictor, Predictor)
        return predictor

    def forward(self, batch: PaddedBatch, task: int) -> torch.Tensor:
        """The logits `[B, outputs]` of a task, by its number."""
        return self.predictors[task](batch)


def fit_joint(
    joint: JointPredictor, data: Sequence[TaskData], settings: FitSettings, power: float, seed: int
) -> Fitted:
    """Trains all tasks together, as long as their mean explained share of the validation loss rises.

    An update is made of a batch of one task. Heads of the others have no gradient in it, and an optimizer
    leaves such weights and their moments alone: neither decay nor momentum moves them.

    Args:
        joint: Changed in place: its weights become the best that were seen.
        data: The tasks, in the order of its predictors.
        settings: How. An epoch has as many updates as the tasks' epochs together; there are
            `least_updates` at least, and `evaluate_updates` from look to look, times the number of tasks.
        power: Tasks are drawn in proportion to their training examples to this power.
        seed: Decides draws, order and dropout.

    Raises:
        UserError: the loss is no number any more.
    """
    started = time.perf_counter()
    # A process would wait for the gradients of the heads that an update doesn't use.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    runtime = Runtime(settings.precision, Accelerator(kwargs_handlers=[unused]))
    joint.to(runtime.device)
    model = runtime.accelerator.prepare_model(joint)
    train = [each.sides[Split.TRAIN] for each in data]
    losses = [loss_of(side.labels) for side in train]
    batches = [
        endless_batches(side.inputs.lengths, settings.batch_examples, (seed, number))
        for number, side in enumerate(train)
    ]
    per_epoch = sum(-(-len(side.inputs) // settings.batch_examples) for side in train)
    total = max(settings.epochs * per_epoch, settings.least_updates * len(data))
    sampler = TaskSampler(tuple(len(side.inputs) for side in train), power, seed)
    update = OptimizerStep(parameter_groups(joint.encoder, joint.heads, settings), total, settings, runtime)

    def updates() -> Iterator[float]:
        for task in sampler.draw(0, total):
            joint.train()
            rows = next(batches[task])
            yield update(partial(model, task=task), train[task].inputs, rows, losses[task])

    def look() -> dict[str, float]:
        explained = {}
        for task, each in enumerate(data):
            valid = each.sides[Split.VALID]
            found = predict_logits(joint.of(task), valid.inputs, settings.batch_tokens, runtime)
            explained[f"{each.task.name}.explained"] = score_of(valid.labels)(found)["explained"]
        return {"explained": float(np.mean(list(explained.values()))), **explained}

    looks = replace(settings, evaluate_updates=settings.evaluate_updates * len(data))
    done, best = learn(joint, updates(), total, look, looks, seed)
    seconds = time.perf_counter() - started
    return Fitted(-(-done // per_epoch), done, best.update, best.figures, seconds)
