"""Tasks with a label per visit, predicted from the visit and earlier ones.

Later visits are masked: that another visit follows, and how soon, can reveal the label of an earlier one.

Shapes: `B` histories in a batch, `T` tokens of a history, `K` visits, `H` hidden size, `O` outputs.
"""

from dataclasses import replace

import numpy as np
import pyarrow.compute as pc
import torch
import torch.nn.functional as F
from torch import nn

from ehr_bert.cohorts.cohort import Cohort
from ehr_bert.errors import UserError
from ehr_bert.prediction.batches import PaddedBatch
from ehr_bert.prediction.encoders import HistoryEncoder
from ehr_bert.prediction.heads.head import DROPOUT
from ehr_bert.prediction.heads.visits import VisitSeriesHead
from ehr_bert.prediction.multitask.binary import BinaryTask
from ehr_bert.prediction.multitask.task_file import TaskSettings
from ehr_bert.prediction.multitask.task_type import TaskLabels
from ehr_bert.prediction.predictor import Predictor
from ehr_bert.prediction.reading import Encoded
from ehr_bert.schemas import TASK_COLUMNS, TaskKind


def past_mask(batch: PaddedBatch) -> torch.Tensor:
    """Return which tokens of the same and earlier visits each token attends to: bool `[B, 1, T, T]`."""
    visit_ids = batch.visit_ids
    not_later = visit_ids[:, None, :] <= visit_ids[:, :, None]  # [B, T, T], by query and key
    itself = torch.eye(visit_ids.shape[1], dtype=torch.bool, device=visit_ids.device)
    # Padding attends to itself, since a softmax over no token is NaN.
    return (not_later & batch.attention_mask[:, None, :] | itself)[:, None]


class PastEncoder(HistoryEncoder):
    """An encoder whose tokens do not attend to later visits.

    Args:
        encoder: A `BertEncoder`, with which the weights are shared.
    """

    def __init__(self, encoder: HistoryEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    @property
    def token_embedding(self) -> nn.Embedding:
        """Token embeddings: `[V, H]`."""
        return self.encoder.token_embedding

    @property
    def levels(self) -> list[nn.Module]:
        """Embeddings and layers, from the lowest to the highest."""
        return self.encoder.levels

    def forward(self, batch: PaddedBatch) -> torch.Tensor:
        """Return the vectors of a batch's tokens: `[B, T, H]`."""
        return self.encoder(replace(batch, attention_mask=past_mask(batch)))


class VisitHead(VisitSeriesHead):
    """Linear layer on the mean vector of each visit's tokens.

    Args:
        hidden_size: Hidden size of the encoder, H.
        outputs: Maximum number of visits of a history, O.
    """

    def __init__(self, hidden_size: int, outputs: int) -> None:
        super().__init__(hidden_size, outputs)
        self.dropout = nn.Dropout(DROPOUT)
        self.linear = nn.Linear(hidden_size, 1)

    def predict(self, reduced: torch.Tensor, visits: torch.Tensor) -> torch.Tensor:
        """Return the logits `[B, O]`. Output k belongs to the visit with the id k + 1."""
        logits = self.linear(self.dropout(reduced))[:, :, 0]  # [B, K]
        return F.pad(logits, (0, self.outputs - logits.shape[1]))


class VisitsTask(BinaryTask):
    """Labels 0 or 1 for each visit of a history."""

    name = TaskKind.VISITS
    column_type = TASK_COLUMNS[TaskKind.VISITS]

    def labels(self, cohort: Cohort, settings: TaskSettings, encoded: Encoded) -> TaskLabels:
        """Return the labels of the visits that the model reads."""
        values, skipped = visit_labels(cohort, settings.column, encoded)
        return self.labels_of(values, skipped, cohort, settings)

    def predictor(self, encoder: HistoryEncoder, head: str, outputs: int, seed: int) -> Predictor:
        """Return a predictor with a `VisitHead`, whatever `head` is."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            visit_head = VisitHead(encoder.hidden_size, outputs)
        return Predictor(PastEncoder(encoder), visit_head).eval()


def visit_labels(cohort: Cohort, column: str, encoded: Encoded) -> tuple[np.ndarray, int]:
    """Return a label for each visit of a history. Output k belongs to the visit with the id k + 1.

    Args:
        cohort: Cohort with a label, or null, for each visit.
        column: Column of the labels.
        encoded: The histories as the model reads them.

    Returns:
        float32 `[N, O]`, NaN where the label is unknown or where visits share the model's last visit id; and
        the number of labels of such visits and of visits that are not read.

    Raises:
        UserError: A history has more or fewer labels than visits (key `visit-count-mismatch`).
    """
    lists, histories = cohort.tasks[column], cohort.histories
    if not np.array_equal(pc.list_value_length(lists).to_numpy(zero_copy_only=False), histories.visits):
        raise UserError(
            "visit-count-mismatch",
            f"the column {column} has more or fewer labels than visits in some histories. Write one label, "
            "or null, per visit.",
        )
    labels = pc.list_flatten(lists).cast("float64").to_numpy(zero_copy_only=False)  # [K]
    tokens = np.flatnonzero(encoded.code_places >= 0)
    example = np.repeat(np.arange(len(encoded)), encoded.lengths)[tokens]
    number = histories.visit_ids[encoded.code_places[tokens]] - 1
    visit, first = np.unique(histories.visit_offsets[example] + number, return_index=True)
    example, output = example[first], encoded.visit_ids[tokens][first] - 1
    outputs = int(output.max(initial=0)) + 1
    cell = example * outputs + output
    is_alone = np.bincount(cell, minlength=1)[cell] == 1
    values = np.full((len(encoded), outputs), np.nan, np.float32)
    values[example[is_alone], output[is_alone]] = labels[visit[is_alone]]
    return values, int((~np.isnan(labels)).sum() - (~np.isnan(values)).sum())


VISITS = VisitsTask()
