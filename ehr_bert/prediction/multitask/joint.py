"""Joint training: one encoder with a head per task. Each update is a batch of one task."""

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
from ehr_bert.prediction.fitting import FitResult, fit_with_early_stopping, predict_logits
from ehr_bert.prediction.multitask.data import TaskData
from ehr_bert.prediction.multitask.losses import loss_of, score_of
from ehr_bert.prediction.multitask.sampling import TaskSampler, endless_batches
from ehr_bert.prediction.optimization import FitSettings, OptimizerStep, Runtime, parameter_groups
from ehr_bert.prediction.predictor import Predictor
from ehr_bert.schemas import Split


class JointPredictor(nn.Module):
    """Predictors that share one encoder.

    Args:
        encoder: The shared encoder.
        data: The tasks.
        head: Name of the heads, except of task types with their own head.
        seed: Random seed of the heads' weights.

    Attributes:
        encoder: The shared encoder.
        predictors: One predictor per task, in the order of the tasks.
    """

    def __init__(self, encoder: HistoryEncoder, data: Sequence[TaskData], head: str, seed: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.predictors = nn.ModuleList([task_data.predictor(encoder, head, seed) for task_data in data])

    @property
    def heads(self) -> nn.ModuleList:
        """Heads of the tasks."""
        return nn.ModuleList([self.of(task).head for task in range(len(self.predictors))])

    def of(self, task: int) -> Predictor:
        """Return the predictor of a task, given its number."""
        predictor = self.predictors[task]
        assert isinstance(predictor, Predictor)
        return predictor

    def forward(self, batch: PaddedBatch, task: int) -> torch.Tensor:
        """Return the logits `[B, O]` of a task, given its number."""
        return self.predictors[task](batch)


def fit_joint(
    joint: JointPredictor, data: Sequence[TaskData], settings: FitSettings, power: float, seed: int
) -> FitResult:
    """Train all tasks together until the mean explained share of their validation losses stops rising.

    Each update is a batch of one task. The heads of the other tasks have no gradient in it, and the optimizer
    leaves their weights and moments unchanged: neither weight decay nor momentum moves them.

    Args:
        joint: Predictors to train in place. They end with the weights of the best evaluation.
        data: The tasks, in the order of the predictors.
        settings: Settings of the training. An epoch has as many updates as the epochs of all tasks together.
            `least_updates` and `evaluate_updates` are multiplied by the number of tasks.
        power: Tasks are drawn in proportion to their number of training examples to this power.
        seed: Random seed of task draws, example order and dropout.

    Raises:
        UserError: The loss is not finite (key `loss-not-finite`).
    """
    started = time.perf_counter()
    # Otherwise each process waits for gradients of the heads that an update does not use.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    runtime = Runtime(settings.precision, Accelerator(kwargs_handlers=[unused]))
    joint.to(runtime.device)
    model = runtime.accelerator.prepare_model(joint)
    train = [task_data.splits[Split.TRAIN] for task_data in data]
    losses = [loss_of(examples.labels) for examples in train]
    batches = [
        endless_batches(examples.inputs.lengths, settings.batch_examples, (seed, number))
        for number, examples in enumerate(train)
    ]
    per_epoch = sum(-(-len(examples.inputs) // settings.batch_examples) for examples in train)
    total = max(settings.epochs * per_epoch, settings.least_updates * len(data))
    sampler = TaskSampler(tuple(len(examples.inputs) for examples in train), power, seed)
    update = OptimizerStep(parameter_groups(joint.encoder, joint.heads, settings), total, settings, runtime)

    def updates() -> Iterator[float]:
        for task in sampler.draw(0, total):
            joint.train()
            rows = next(batches[task])
            yield update(partial(model, task=task), train[task].inputs, rows, losses[task])

    def evaluate() -> dict[str, float]:
        explained = {}
        for number, task_data in enumerate(data):
            valid = task_data.splits[Split.VALID]
            logits = predict_logits(joint.of(number), valid.inputs, settings.batch_tokens, runtime)
            explained[f"{task_data.task.name}.explained"] = score_of(valid.labels)(logits)["explained"]
        return {"explained": float(np.mean(list(explained.values()))), **explained}

    evaluations = replace(settings, evaluate_updates=settings.evaluate_updates * len(data))
    done, best = fit_with_early_stopping(joint, updates(), total, evaluate, evaluations, seed)
    seconds = time.perf_counter() - started
    return FitResult(-(-done // per_epoch), done, best.update, best.metrics, seconds)
