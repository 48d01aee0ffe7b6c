"""The data of a comparison: examples, labels and splits, prepared once per process."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from ehr_bert.cohorts.cohort import Cohort
from ehr_bert.errors import UserError
from ehr_bert.prediction.contenders.bag_of_codes import visit_counts
from ehr_bert.prediction.contenders.subsets import subset, training_order
from ehr_bert.prediction.contenders.tuning import Tuning
from ehr_bert.prediction.encoders import BertEncoder, bert_encoder
from ehr_bert.prediction.frozen import FrozenVectors, frozen_vectors
from ehr_bert.prediction.optimization import Runtime
from ehr_bert.prediction.predictor import make_predictor
from ehr_bert.prediction.reading import Encoded, ModelVocabulary, encode
from ehr_bert.schemas import LABEL, Split, TaskKind


@dataclass(frozen=True)
class SplitRows:
    """Rows of the examples of each split that a run uses.

    Attributes:
        train: Training examples, to fit on: int64.
        valid: Validation examples, to select models by: int64.
        test: Test examples, for the final scores only: int64.
    """

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Scores:
    """The output of a fitted contender: logits (log odds), not probabilities.

    The comparison calibrates them on the validation split. They must be finite.

    Attributes:
        valid: Logits of the validation examples: float64, one per example.
        test: Logits of the test examples: float64, one per example.
        chosen: Selections on the validation split, in JSON types.
    """

    valid: np.ndarray
    test: np.ndarray
    chosen: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Problem:
    """A binary task on `N` examples.

    Attributes:
        cohort: The examples whose label is known.
        rows: Their rows in the cohort table: int64 `[N]`.
        labels: 0 or 1: int64 `[N]`.
        model: Export folder of the pretrained model, if one was given.
        tuning: Settings of the neural contenders.
    """

    cohort: Cohort
    rows: np.ndarray
    labels: np.ndarray
    model: Path | None
    tuning: Tuning

    @classmethod
    def of(cls, cohort: Cohort, task: str, model: Path | None, tuning: Tuning) -> "Problem":
        """Return the problem of a task of a cohort.

        Raises:
            UserError: A split has no cases or no controls (key `one-class-only`).
        """
        labels = cohort.labels(task)
        rows = np.flatnonzero(~np.isnan(labels))
        problem = cls(cohort.take(rows), rows, labels[rows].astype(np.int64), model, tuning)
        for split in Split:
            of_split = problem.labels[problem.cohort.split == split.value]
            if len(np.unique(of_split)) < 2:
                raise UserError(
                    "one-class-only",
                    f"the {split} split has {int(of_split.sum())} cases of {task} in {len(of_split)} examples"
                    ". Use a cohort with both cases and controls in every split.",
                )
        return problem

    @cached_property
    def patients(self) -> np.ndarray:
        """Patient number of each example: int64 `[N]`."""
        return np.unique(self.cohort.patient_ids.astype(str), return_inverse=True)[1]

    @cached_property
    def train(self) -> np.ndarray:
        """Rows of all training examples: int64."""
        return np.flatnonzero(self.cohort.split == Split.TRAIN.value)

    @cached_property
    def training_patients(self) -> np.ndarray:
        """Patient number of each training example, from 0 without gaps: int64."""
        return np.unique(self.patients[self.train], return_inverse=True)[1]

    def check_sizes(self, sizes: Sequence[int | None]) -> None:
        """Check training sizes.

        Raises:
            UserError: A size is below 2 or not below the number of training patients (key
                `training-size-out-of-range`).
        """
        patients = self.training_patients.max() + 1
        for size in sizes:
            if size is not None and not 2 <= size < patients:
                raise UserError(
                    "training-size-out-of-range",
                    f"the training size {size} is out of range: the cohort has {patients} training patients. "
                    f"Choose a number from 2 to {patients - 1}, or `all`.",
                )

    def check_export(self) -> None:
        """Check that the pretrained model can be read and can encode all codes of the cohort.

        Raises:
            UserError: The model does not fit, as in `bert_encoder` and `ModelVocabulary.read_as`.
        """
        _ = self.encoder  # Reads the weights.
        ModelVocabulary.of_folder(self.export).read_as(self.cohort.histories.vocabulary)

    def split_rows(self, size: int | None, seed: int) -> SplitRows:
        """Return the examples of a run.

        Args:
            size: Number of training patients; all if None. Validation and test are always complete.
            seed: Seed of the order of the training patients.
        """
        order = training_order(self.training_patients, self.labels[self.train], seed)
        split = self.cohort.split
        return SplitRows(
            train=self.train[subset(self.training_patients, order, size)],
            valid=np.flatnonzero(split == Split.VALID.value),
            test=np.flatnonzero(split == Split.TEST.value),
        )

    @cached_property
    def visit_counts(self) -> sparse.csr_array:
        """The result of `bag_of_codes.visit_counts`: `[N, U]`."""
        return visit_counts(self.cohort.histories)

    @property
    def export(self) -> Path:
        """The export folder.

        Raises:
            UserError: No export folder was given (key `pretrained-model-needed`).
        """
        if self.model is None:
            raise UserError(
                "pretrained-model-needed",
                "a requested contender needs a pretrained model. Name its export folder with --model.",
            )
        return self.model

    @cached_property
    def encoded(self) -> Encoded:
        """All histories, encoded for the pretrained model."""
        vocabulary = ModelVocabulary.of_folder(self.export)
        return encode(self.cohort.histories, vocabulary, self.tuning.max_length)

    @cached_property
    def encoder(self) -> BertEncoder:
        """The pretrained encoder. Copy it before changing it."""
        return bert_encoder(self.export)

    def frozen_vectors(self, head: str) -> FrozenVectors:
        """Return the vectors of the frozen pretrained encoder that a head reads, computed once per head."""
        if head not in self._frozen:
            predictor = make_predictor(self.encoder, head).to(Runtime().device)
            self._frozen[head] = frozen_vectors(
                predictor.encoder, predictor.head, self.encoded, self.tuning.fit.batch_tokens
            )
        return self._frozen[head]

    @cached_property
    def _frozen(self) -> dict[str, FrozenVectors]:
        return {}


def binary_task(cohort: Cohort, name: str | None) -> str:
    """Return the name of the binary task to compare on.

    Args:
        cohort: The cohort.
        name: The requested task. By default `label`, or the only binary task.

    Raises:
        UserError: The task is unknown (key `unknown-task`) or not binary (`task-not-binary`), the cohort has
            no binary task (`no-binary-task`), or it has several and none was requested (`several-tasks`).
    """
    binary = [task for task in cohort.tasks if cohort.kind(task) is TaskKind.BINARY]
    if name is not None and name not in cohort.tasks:
        raise UserError(
            "unknown-task",
            f"the cohort has no task {name!r}. Choose one of {', '.join(cohort.tasks) or 'none'} "
            "with --task.",
        )
    if name is not None and name not in binary:
        raise UserError(
            "task-not-binary",
            f"the task {name} is of kind {cohort.kind(name)}. Choose a binary task with --task.",
        )
    if name is None and not binary:
        raise UserError(
            "no-binary-task", "the cohort has no binary task. Use a cohort with a column of labels 0 and 1."
        )
    if name is None and len(binary) != 1 and LABEL not in binary:
        raise UserError(
            "several-tasks", f"the cohort has the binary tasks {', '.join(binary)}. Choose one with --task."
        )
    return name or (LABEL if LABEL in binary else binary[0])
