"""The examples of tasks as a model reads them, with their labels, by split."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ehr_bert.prediction.encoders import HistoryEncoder
from ehr_bert.prediction.multitask.task_type import TaskLabels
from ehr_bert.prediction.multitask.tasks import PredictionTask
from ehr_bert.prediction.predictor import Predictor
from ehr_bert.prediction.reading import Encoded, ModelVocabulary, encode
from ehr_bert.schemas import Split


@dataclass(frozen=True)
class SplitExamples:
    """The examples of one split of a task.

    Attributes:
        inputs: `N` histories.
        labels: Their labels.
    """

    inputs: Encoded
    labels: TaskLabels


@dataclass(frozen=True)
class TaskData:
    """A task with the examples that a model is trained and evaluated on.

    Attributes:
        task: The task.
        splits: Examples of each split.
    """

    task: PredictionTask
    splits: dict[Split, SplitExamples]

    @property
    def labels(self) -> TaskLabels:
        """Labels of the training split."""
        return self.splits[Split.TRAIN].labels

    def predictor(self, encoder: HistoryEncoder, head: str, seed: int) -> Predictor:
        """Return a predictor of the task with a new head.

        Its bias is the baseline's logit, so that training does not have to learn the prevalence.

        Args:
            encoder: Encoder of the predictor.
            head: Name of the head. Task types may have a head of their own, as labels per visit do.
            seed: Random seed of the head's weights.

        Raises:
            UserError: The head is unknown (key `unknown-head`).
        """
        predictor = self.task.type.predictor(encoder, head, self.labels.outputs, seed)
        bias = predictor.head.output_bias
        if bias is not None:
            with torch.no_grad():
                bias.copy_(torch.from_numpy(self.labels.baseline[: len(bias)]))
        return predictor


def data_of(
    tasks: Sequence[PredictionTask], vocabulary: ModelVocabulary, max_length: int | None = None
) -> list[TaskData]:
    """Return the examples of tasks as a model reads them.

    Args:
        tasks: The tasks.
        vocabulary: Vocabulary of the model.
        max_length: Maximum number of tokens of a history, by default the model's limit.

    Raises:
        UserError: The model cannot read the histories, or a task has nothing to learn.
    """
    data = []
    for task in tasks:
        encoded = encode(task.cohort.histories, vocabulary, max_length)
        labels = task.type.labels(task.cohort, task.settings, encoded)
        rows = {split: task.cohort.split == split.value for split in Split}
        splits = {
            split: SplitExamples(encoded.take(is_in), labels.take(is_in)) for split, is_in in rows.items()
        }
        data.append(TaskData(task, splits))
    return data
