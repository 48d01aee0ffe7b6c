"""What all contenders are given: examples, labels and sides, prepared once a process."""

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
class Sides:
    """Which examples are for what.

    Attributes:
        train: Rows of those to fit on: int64 `[M]`.
        valid: Of those to choose by: int64 `[V]`.
        test: Of those that nothing is chosen by: int64 `[T]`.
    """

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Scores:
    """What a fitted contender says.

    Attributes:
        valid: Logits of the validation examples: float64 `[V]`.
        test: Of the test examples: float64 `[T]`.
        chosen: What was chosen on the validation split, for JSON.
    """

    valid: np.ndarray
    test: np.ndarray
    chosen: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Problem:
    """A binary task on `N` examples.

    Attributes:
        cohort: Those whose label is known.
        rows: Their rows in the cohort table: int64 `[N]`.
        labels: 0 or 1: int64 `[N]`.
        model: The export folder of the pretrained model, for those who need one.
        tuning: How neural contenders are fitted.
    """

    cohort: Cohort
    rows: np.ndarray
    labels: np.ndarray
    model: Path | None
    tuning: Tuning

    @classmethod
    def of(cls, cohort: Cohort, task: str, model: Path | None, tuning: Tuning) -> "Problem":
        """The problem of a cohort's task.

        Raises:
            UserError: a side lacks examples with the outcome, or without it.
        """
        labels = cohort.labels(task)
        rows = np.flatnonzero(~np.isnan(labels))
        problem = cls(cohort.take(rows), rows, labels[rows].astype(np.int64), model, tuning)
        for split in Split:
            found = problem.labels[problem.cohort.split == split.value]
            if len(np.unique(found)) < 2:
                raise UserError(
                    f"the {split} split has {int(found.sum())} of {len(found)} examples with {task}: "
                    "nothing can be told without some that have it and some that don't"
                )
        return problem

    @cached_property
    def patients(self) -> np.ndarray:
        """Whose each example is, by number: int64 `[N]`."""
        return np.unique(self.cohort.patient_ids.astype(str), return_inverse=True)[1]

    @cached_property
    def train(self) -> np.ndarray:
        """Rows of all training examples: int64."""
        return np.flatnonzero(self.cohort.split == Split.TRAIN.value)

    @cached_property
    def training_patients(self) -> np.ndarray:
        """Whose each training example is, counted from 0 among them: int64 `[M]`."""
        return np.unique(self.patients[self.train], return_inverse=True)[1]

    def check(self, sizes: Sequence[int | None]) -> None:
        """Raises a `UserError` where a size isn't one of a part of the training patients."""
        patients = self.training_patients.max() + 1
        for size in sizes:
            if size is not None and not 2 <= size < patients:
                raise UserError(
                    f"a training size of {size}: the cohort has {patients} training patients, "
                    "so name a number from 2 to below that, or `all`"
                )

    def check_export(self) -> None:
        """Raises a `UserError` where the pretrained model can't be read, or can't read the codes."""
        _ = self.encoder  # reads its weights
        ModelVocabulary.of_folder(self.export).read_as(self.cohort.histories.vocabulary)

    def sides(self, size: int | None, seed: int) -> Sides:
        """The examples of `size` training patients, or of all if None; validation and test are whole."""
        order = training_order(self.training_patients, self.labels[self.train], seed)
        split = self.cohort.split
        return Sides(
            train=self.train[subset(self.training_patients, order, size)],
            valid=np.flatnonzero(split == Split.VALID.value),
            test=np.flatnonzero(split == Split.TEST.value),
        )

    @cached_property
    def visit_counts(self) -> sparse.csr_array:
        """See `bag_of_codes.visit_counts`: `[N, K]`."""
        return visit_counts(self.cohort.histories)

    @property
    def export(self) -> Path:
        """The export folder.

        Raises:
            UserError: none was named.
        """
        if self.model is None:
            raise UserError("a pretrained model is needed: name its folder by --model")
        return self.model

    @cached_property
    def encoded(self) -> Encoded:
        """All histories as the pretrained model reads them."""
        vocabulary = ModelVocabulary.of_folder(self.export)
        return encode(self.cohort.histories, vocabulary, self.tuning.max_length)

    @cached_property
    def encoder(self) -> BertEncoder:
        """The pretrained encoder: to be copied before it is changed."""
        return bert_encoder(self.export)

    def frozen_vectors(self, head: str) -> FrozenVectors:
        """What the pretrained encoder, left as it is, gives a head; computed once."""
        if head not in self._frozen:
            predictor = make_predictor(self.encoder, head).to(Runtime().device)
            self._frozen[head] = frozen_vectors(predictor, self.encoded, self.tuning.fit.batch_tokens)
        return self._frozen[head]

    @cached_property
    def _frozen(self) -> dict[str, FrozenVectors]:
        return {}


def binary_task(cohort: Cohort, named: str | None) -> str:
    """The task of that name, or the only binary one.

    Raises:
        UserError: there is no such task, or several.
    """
    binary = [name for name in cohort.tasks if cohort.kind(name) is TaskKind.BINARY]
    if named is not None and named not in cohort.tasks:
        raise UserError(f"the cohort has no task {named!r}: it has {', '.join(cohort.tasks) or 'none'}")
    if named is not None and named not in binary:
        raise UserError(f"{named} is a task of kind {cohort.kind(named)}: only binary ones are compared here")
    if named is None and not binary:
        raise UserError("the cohort has no binary task: only such are compared here")
    if named is None and len(binary) != 1 and LABEL not in binary:
        raise UserError(f"the cohort has the binary tasks {', '.join(binary)}: choose one by --task")
    return named or (LABEL if LABEL in binary else binary[0])
