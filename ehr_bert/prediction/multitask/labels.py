"""Labels of every kind as one array, which losses and scores are made of.

N: examples, O: outputs of the task's head: 1, or one for each code, or one for each visit.
"""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow.compute as pc
import torch
import torch.nn.functional as F

from ehr_bert.cohorts.cohort import Cohort
from ehr_bert.errors import UserError
from ehr_bert.prediction.fitting import Score
from ehr_bert.prediction.multitask.tasks import PredictionTask
from ehr_bert.prediction.optimization import Loss
from ehr_bert.prediction.reading import Encoded
from ehr_bert.schemas import Split, TaskKind


@dataclass(frozen=True)
class TaskLabels:
    """The labels of a task's examples.

    Attributes:
        kind: What they are of.
        values: NaN where a label isn't known: float32 `[N, O]`. A regression's are standardised.
        guess: The logits of who knows nothing of a patient, the training labels' means: float32 `[O]`.
        codes: What the outputs of a multilabel task stand for, in the order of the alphabet.
        center: The mean of a regression's training labels, which was taken off.
        scale: Their standard deviation, by which was divided.
        skipped: Labels of visits that aren't read, since a history is too long.
    """

    kind: TaskKind
    values: np.ndarray
    guess: np.ndarray
    codes: tuple[str, ...] = ()
    center: float = 0.0
    scale: float = 1.0
    skipped: int = 0

    @property
    def outputs(self) -> int:
        """O."""
        return self.values.shape[1]

    def take(self, rows: np.ndarray) -> "TaskLabels":
        """Those of some examples: int64 `[M]`, or bool `[N]`."""
        return replace(self, values=self.values[rows])


def labels_of(task: PredictionTask, encoded: Encoded) -> TaskLabels:
    """The labels of a task.

    Args:
        task: Has the examples of all splits; what is derived from labels comes from the training split's.
        encoded: The same examples as they are read, which tells the visits.

    Raises:
        UserError: the training labels are all equal, or no code of a multilabel task is frequent enough.
    """
    train = task.cohort.split == Split.TRAIN.value
    column = task.settings.column
    if task.kind is TaskKind.MULTILABEL:
        values, codes = _codes(task, train)
        return TaskLabels(task.kind, values, _log_odds(values[train], axis=0), codes=codes)
    if task.kind is TaskKind.VISITS:
        values, skipped = visit_labels(task.cohort, column, encoded)
    else:
        values, skipped = task.cohort.labels(column)[:, None], 0
    known = values[train][~np.isnan(values[train])].astype(float)
    if len(np.unique(known)) < 2:
        raise UserError(
            f"the task {task.name}: all {len(known):,} training labels are equal: there is nothing to learn"
        )
    if task.kind is TaskKind.REGRESSION:
        center, scale = float(known.mean()), float(known.std())
        standardised = ((values - center) / scale).astype(np.float32)
        return TaskLabels(task.kind, standardised, np.zeros(1, np.float32), center=center, scale=scale)
    guess = np.full(values.shape[1], _log_odds(known))
    return TaskLabels(task.kind, values.astype(np.float32), guess, skipped=skipped)


def visit_labels(cohort: Cohort, column: str, encoded: Encoded) -> tuple[np.ndarray, int]:
    """A label for each visit of a history as it is read: output v is of the visit whose id is v + 1.

    Args:
        cohort: Has a label, or null, for each visit.
        column: The task's.
        encoded: Its histories.

    Returns:
        float32 `[N, O]`, NaN where the label isn't known or visits share the model's last visit id; and how
        many labels are of visits that can't be told apart so or that aren't read.

    Raises:
        UserError: a history has more labels than visits, or fewer.
    """
    lists, histories = cohort.tasks[column], cohort.histories
    if not np.array_equal(pc.list_value_length(lists).to_numpy(zero_copy_only=False), histories.visits):
        raise UserError(f"the column {column} must have a label, or null, for each visit of a history")
    flat = pc.list_flatten(lists).cast("float64").to_numpy(zero_copy_only=False)  # [V]
    tokens = np.flatnonzero(encoded.code_places >= 0)
    example = np.repeat(np.arange(len(encoded)), encoded.lengths)[tokens]
    number = histories.visit_ids[encoded.code_places[tokens]] - 1
    visit, first = np.unique(histories.visit_offsets[example] + number, return_index=True)
    example, output = example[first], encoded.visit_ids[tokens][first] - 1
    outputs = int(output.max(initial=0)) + 1
    place = example * outputs + output
    alone = np.bincount(place, minlength=1)[place] == 1
    values = np.full((len(encoded), outputs), np.nan, np.float32)
    values[example[alone], output[alone]] = flat[visit[alone]]
    return values, int((~np.isnan(flat)).sum() - (~np.isnan(values)).sum())


def label_losses(kind: TaskKind, found: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """The loss of each label: the square of a regression's error, else cross entropy; 0 of one not known.

    Args:
        kind: What the labels are of.
        found: Logits, `[B, O]`.
        values: As in `TaskLabels`, `[B, O]`.
    """
    targets = values.nan_to_num()
    if kind is TaskKind.REGRESSION:
        losses = F.mse_loss(found, targets, reduction="none")
    else:
        losses = F.binary_cross_entropy_with_logits(found, targets, reduction="none")
    return losses.masked_fill(values.isnan(), 0)


def loss_of(labels: TaskLabels) -> Loss:
    """The loss that training lowers, in units of that of the guess, so that tasks of all kinds weigh alike.

    Every known label counts alike.

    Args:
        labels: The training split's.
    """
    values = torch.from_numpy(labels.values)
    unit = _guess_losses(labels).sum() / len(values)  # of an example

    def loss(found: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        losses = label_losses(labels.kind, found, values[rows].to(found.device))
        return losses.sum(dim=1) / unit

    return loss


def score_of(labels: TaskLabels) -> Score:
    """How much better than the guess logits are: the share of its loss that they explain, and their loss.

    `explained` is R² of a regression, and McFadden's pseudo R² of the other kinds; the guess is that of the
    training split.

    Args:
        labels: The validation split's.
    """
    values = torch.from_numpy(labels.values)
    guessed = float(_guess_losses(labels).sum())

    def score(found: np.ndarray) -> dict[str, float]:
        losses = float(label_losses(labels.kind, torch.from_numpy(found).double(), values.double()).sum())
        return {"explained": 1 - losses / guessed, "loss": losses / max(int((~values.isnan()).sum()), 1)}

    return score


def _guess_losses(labels: TaskLabels) -> torch.Tensor:
    """[N, O]."""
    values = torch.from_numpy(labels.values).double()
    return label_losses(labels.kind, torch.from_numpy(labels.guess).double().expand_as(values), values)


def _log_odds(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Of the mean of 0s and 1s, as if there were one more of each."""
    ones = values.sum(axis=axis, dtype=float) + 1
    zeros = (1 - values).sum(axis=axis, dtype=float) + 1
    return np.log(ones / zeros).astype(np.float32)


def _codes(task: PredictionTask, train: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Whether each code that is frequent enough is true: float32 `[N, O]`; and the codes."""
    lists, least = task.cohort.tasks[task.settings.column], task.settings.min_positives
    codes = pc.list_flatten(lists).dictionary_encode()
    names, place = codes.dictionary.to_numpy(zero_copy_only=False), codes.indices.to_numpy()
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    example = np.repeat(np.arange(len(lengths)), lengths)
    chosen = np.flatnonzero(np.bincount(place[train[example]], minlength=len(names)) >= least)
    if not len(chosen):
        raise UserError(
            f"the task {task.name}: no code is true of {least} training examples: lower its min_positives"
        )
    chosen = chosen[np.argsort(names[chosen])]
    output = np.full(len(names), -1)
    output[chosen] = np.arange(len(chosen))
    kept = output[place] >= 0
    values = np.zeros((len(lengths), len(chosen)), np.float32)
    values[example[kept], output[place[kept]]] = 1
    return values, tuple(names[chosen])
