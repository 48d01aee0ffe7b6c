"""A task's examples as a model reads them, with their labels, by split."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ehr_bert.prediction.encoders import HistoryEncoder
from ehr_bert.prediction.multitask.labels import TaskLabels, labels_of
from ehr_bert.prediction.multitask.past import PastEncoder, VisitHead
from ehr_bert.prediction.multitask.tasks import PredictionTask
from ehr_bert.prediction.predictor import Predictor, make_predictor
from ehr_bert.prediction.reading import Encoded, ModelVocabulary, encode
from ehr_bert.schemas import Split, TaskKind


@dataclass(frozen=True)
class Side:
    """The examples of a split.

    Attributes:
        inputs: `N` histories.
        labels: Of each.
    """

    inputs: Encoded
    labels: TaskLabels


@dataclass(frozen=True)
class TaskData:
    """All that is trained and measured on.

    Attributes:
        task: What is predicted.
        sides: The examples of each split.
    """

    task: PredictionTask
    sides: dict[Split, Side]

    @property
    def labels(self) -> TaskLabels:
        """Those of the training split."""
        return self.sides[Split.TRAIN].labels

    def predictor(self, encoder: HistoryEncoder, head: str, seed: int) -> Predictor:
        """A predictor of the task with a new head, random by `seed`.

        Its bias is the guess of who knows nothing of a patient: an outcome's frequency need not be learnt.

        Args:
            encoder: Its encoder.
            head: The name of the head; visits have one of their own.
            seed: Decides the head's weights.

        Raises:
            UserError: there is no such head.
        """
        labels = self.labels
        if self.task.kind is TaskKind.VISITS:
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                visit_head = VisitHead(encoder.hidden_size, labels.outputs)
            predictor = Predictor(PastEncoder(encoder), visit_head).eval()
        else:
            predictor = make_predictor(encoder, head, labels.outputs, seed)
        bias = predictor.head.output_bias
        if bias is not None:
            with torch.no_grad():
                bias.copy_(torch.from_numpy(labels.guess[: len(bias)]))
        return predictor


def data_of(
    tasks: Sequence[PredictionTask], vocabulary: ModelVocabulary, max_length: int | None = None
) -> list[TaskData]:
    """The tasks' examples as a model reads them.

    Args:
        tasks: Several.
        vocabulary: The model's.
        max_length: The most tokens of a history; the model's own limit if None.

    Raises:
        UserError: as `encode` and `labels_of`.
    """
    found = []
    for task in tasks:
        encoded = encode(task.cohort.histories, vocabulary, max_length)
        labels = labels_of(task, encoded)
        of_split = {split: task.cohort.split == split.value for split in Split}
        sides = {split: Side(encoded.take(rows), labels.take(rows)) for split, rows in of_split.items()}
        found.append(TaskData(task, sides))
    return found
