"""Sets of examples of any kind: their description, and their batches for training and evaluation."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction
from typing import Any

import tensorflow as tf

from ehr_bert.examples.labels import LabelMaker
from ehr_bert.examples.training_masking import TrainingMasking
from ehr_bert.examples.updates import BatchSize, Portion, UpdateBatches, WindowClass, smallest_fitting
from ehr_bert.vocabulary import Vocabulary

RECORD_COUNTS = ("patients", "real_tokens", "longest", "max_seq_length", "max_predictions_per_seq", "max_id")
"""Counts of each record, by their names in `ExamplesInfo`. They are taken when records are checked."""

EVALUATION_SEED = (2019, 0)
"""Seed of the masks of evaluations, which are always the same."""


@dataclass(frozen=True)
class ExamplesInfo:
    """Description of a list of TFRecord files. Values are None if no `examples.json` states them.

    Attributes:
        files: Names of the files.
        kind: Kind of examples, such as `packed.PACKED`; None for tutorial examples.
        examples: Number of examples. Each is a window.
        windows: Pairs (number of windows, length), by ascending length.
        patients: Number of patients of all windows. A patient who was split is counted several times.
        real_tokens: Number of tokens of all windows, without padding.
        longest: Number of tokens of the longest patient.
        max_seq_length: Largest number of stored positions of a window.
        max_predictions_per_seq: Largest number of stored masked codes of an example; None if there are none.
        max_id: Last id of the vocabulary, or the largest id in the examples.
        corrupt: Number of skipped records.
        mask_id: Id that hides a code.
        cls_id: Id of the `[CLS]` at the start of each patient. If `kind` is known, None means that there is
            none.
        vocabulary: The vocabulary.
        observation: Whether any of the files has the features of `observation.DAYS_TO`.
    """

    files: tuple[str, ...]
    kind: str | None
    examples: int
    windows: tuple[tuple[int, int], ...]
    patients: int
    real_tokens: int
    longest: int
    max_seq_length: int
    max_predictions_per_seq: int | None
    max_id: int
    corrupt: int = 0
    mask_id: int | None = None
    cls_id: int | None = None
    vocabulary: Vocabulary | None = None
    observation: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON, with the fingerprint of the vocabulary instead of its tokens.

        `observation` is left out if it is false, so that training runs of version 0.1 can be resumed.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        vocabulary = values.pop("vocabulary")
        if not self.observation:
            del values["observation"]
        return values | {
            "files": list(self.files),
            "windows": [list(pair) for pair in self.windows],
            "vocabulary_sha256": vocabulary.sha256 if vocabulary else None,
        }

    @property
    def fingerprint(self) -> str:
        """SHA-256 of `to_dict`."""
        return hashlib.sha256(json.dumps(self.to_dict()).encode()).hexdigest()


@dataclass(frozen=True)
class Reading:
    """How examples are read, in training and in evaluations.

    Attributes:
        max_visits: Visit ids are limited to values below it, see `ModelConfig.type_vocab_size`.
        masking: How codes are masked. Tutorial examples are already masked.
        labels: Makers of the objectives' labels.
        max_seq_length: Number of first tokens of a patient to keep; all if None.
    """

    max_visits: int
    masking: TrainingMasking = field(default_factory=TrainingMasking)
    labels: tuple[LabelMaker, ...] = ()
    max_seq_length: int | None = None


def figures(**by_name: tf.Tensor) -> tf.Tensor:
    """Stack the `RECORD_COUNTS` of N records: int64 `[N, G]` from `[N]` each."""
    return tf.stack([tf.cast(by_name[name], tf.int64) for name in RECORD_COUNTS], axis=1)


class ExampleSet(ABC):
    """Examples of TFRecord files that were checked.

    Args:
        info: Their description.
    """

    def __init__(self, info: ExamplesInfo) -> None:
        self.info = info

    def updates(
        self,
        reading: Reading,
        *,
        batch: BatchSize,
        micro_batch_tokens: int,
        replicas: int,
        seed: tuple[int, int],
    ) -> UpdateBatches:
        """Return endless updates. Each epoch has a different order.

        Args:
            reading: How the examples are read.
            batch: Average size of an update, over all replicas.
            micro_batch_tokens: Positions that a device computes at a time; at least a window of each length.
            replicas: Number of devices that share an update.
            seed: Seed of order and masking: that of the training, and the number of the phase.
        """
        return UpdateBatches([self.portion(reading, batch)], micro_batch_tokens, replicas, seed)

    def portion(self, reading: Reading, batch: BatchSize, share: Fraction = Fraction(1)) -> Portion:
        """Return the portion of these examples that an update uses.

        Args:
            reading: How the examples are read.
            batch: Average size of an update, over all replicas.
            share: Share of these examples in the update.
        """
        return Portion(self._classes(reading), share * self.fraction(batch), share)

    def fraction(self, batch: BatchSize) -> Fraction:
        """Return the fraction of these examples that is used per update, if it has no other examples."""
        if batch.patients:
            return Fraction(batch.patients, self.info.patients)
        return Fraction(batch.tokens or 0, self.info.real_tokens)

    def evaluation(
        self, reading: Reading, *, batch_tokens: int, replicas: int, max_batches: int | None = None
    ) -> UpdateBatches:
        """Return batches with each window once, in stored order and with the same masks each time.

        Every batch has windows of each length.

        Args:
            reading: How the examples are read.
            batch_tokens: Positions that a device computes at a time; at least a window of each length.
            replicas: Number of devices that share an evaluation.
            max_batches: Largest number of batches, of all replicas together; all windows if None.
        """
        classes = self._classes(reading)

        def positions(batches: int) -> int:
            return sum(-(-same.windows // (batches * replicas)) * same.length for same in classes)

        batches = smallest_fitting(max(same.windows for same in classes), batch_tokens, positions)
        steps = min(batches, max_batches or batches)
        portion = Portion(classes, Fraction(1, batches))
        return UpdateBatches([portion], batch_tokens, replicas, EVALUATION_SEED, steps)

    @abstractmethod
    def _classes(self, reading: Reading) -> Sequence[WindowClass]:
        """Return the windows, by ascending length."""
