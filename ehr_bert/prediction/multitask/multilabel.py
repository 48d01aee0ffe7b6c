"""Multilabel tasks: the codes that apply to a history."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pyarrow.compute as pc
from scipy.special import expit

from ehr_bert.cohorts.cohort import Cohort
from ehr_bert.errors import UserError
from ehr_bert.metrics.discrimination import auroc, average_precision, ratio, thresholds
from ehr_bert.prediction.multitask.task_file import TaskSettings
from ehr_bert.prediction.multitask.task_type import TaskLabels, TaskType, log_odds_of_mean
from ehr_bert.prediction.reading import Encoded
from ehr_bert.schemas import TASK_COLUMNS, Split, TaskKind

_CELLS = 8_000_000
"""Number of label weights in memory at once."""


class MultilabelTask(TaskType):
    """Lists of codes. Each code with enough training examples has an output."""

    name = TaskKind.MULTILABEL
    column_type = TASK_COLUMNS[TaskKind.MULTILABEL]
    titles: ClassVar = {
        "macro_auroc": "macro AUROC",
        "micro_auroc": "micro AUROC",
        "macro_average_precision": "macro average precision",
        "micro_average_precision": "micro average precision",
    }
    replicates = 200  # each one ranks hundreds of codes
    uses_min_positives = True

    def labels(self, cohort: Cohort, settings: TaskSettings, encoded: Encoded) -> TaskLabels:
        """Return whether each frequent code is in the list."""
        train = cohort.split == Split.TRAIN.value
        lists, least = cohort.tasks[settings.column], settings.min_positives
        codes = pc.list_flatten(lists).dictionary_encode()
        names, code = codes.dictionary.to_numpy(zero_copy_only=False), codes.indices.to_numpy()
        lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
        example = np.repeat(np.arange(len(lengths)), lengths)
        chosen = np.flatnonzero(np.bincount(code[train[example]], minlength=len(names)) >= least)
        if not len(chosen):
            raise UserError(
                "no-frequent-code",
                f"task {settings.name}: no code has {least} training examples. Lower its min_positives.",
            )
        chosen = chosen[np.argsort(names[chosen])]
        output = np.full(len(names), -1)
        output[chosen] = np.arange(len(chosen))
        is_chosen = output[code] >= 0
        values = np.zeros((len(lengths), len(chosen)), np.float32)
        values[example[is_chosen], output[code[is_chosen]]] = 1
        return TaskLabels(self, values, log_odds_of_mean(values[train], axis=0), codes=tuple(names[chosen]))

    def predictions(self, logits: Mapping[Split, np.ndarray], valid: TaskLabels) -> dict[Split, np.ndarray]:
        """Return probabilities without calibration: float64 `[N, O]` per split."""
        return {split: expit(values.astype(float)) for split, values in logits.items()}

    def metrics(
        self, labels: np.ndarray, predictions: np.ndarray, weights: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return AUROC and average precision, as macro and as micro averages.

        Macro averages are means over the codes that have both cases and controls. Micro averages rank the
        codes of all examples together.
        """
        by_code = [_ranking(*column, weights) for column in zip(labels.T, predictions.T, strict=True)]
        keys = by_code[0]
        macro = {key: _mean_of_known(np.stack([values[key] for values in by_code])) for key in keys}
        chunks = np.array_split(weights, -(-weights.shape[1] * labels.size // _CELLS), axis=1)
        flat, scores = labels.ravel(), predictions.ravel()
        micro = [_ranking(flat, scores, chunk.repeat(labels.shape[1], axis=0)) for chunk in chunks]
        return {f"macro_{key}": macro[key] for key in keys} | {
            f"micro_{key}": np.concatenate([values[key] for values in micro]) for key in keys
        }

    def caption(self, facts: Mapping[str, Any]) -> str:
        """Return the number of codes."""
        return f"{facts['outputs']:,} codes with at least {facts['min_positives']:,} training examples each."


def _ranking(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    counts = thresholds(labels, scores, weights)
    return {"auroc": auroc(counts), "average_precision": average_precision(counts)}


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    """Return the mean of each column, without NaN."""
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0).sum(axis=0), known.sum(axis=0))


MULTILABEL = MultilabelTask()
