"""A source of examples, whatever their kind: what it holds, and the batches for training and evaluation."""

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
"""What is counted of each record when it is checked, under the names of `ExamplesInfo`."""

EVALUATION_SEED = (2019, 0)
"""Masks an evaluation, every time alike."""


@dataclass(frozen=True)
class ExamplesInfo:
    """What a list of TFRecord files holds. What is None is unknown, since nothing beside the files tells it.

    Attributes:
        files: Names of the files.
        kind: The kind of examples, see `packed.KIND` and `tutorial.KIND`; None is the tutorial's.
        examples: Examples in all, each a window.
        windows: How many there are of each length: pairs (windows, length), by ascending length.
        patients: Patients of all windows; one who was split counts as several.
        real_tokens: Tokens of all windows, padding not counted.
        longest: Real tokens of the longest patient.
        max_seq_length: Stored positions of a window at most.
        max_predictions_per_seq: Stored masked codes of an example at most; None without any.
        max_id: The last id of the vocabulary, or the largest one found.
        corrupt: Records that are left out.
        mask_id: The id that hides a code.
        cls_id: The id of the `[CLS]` that leads each patient; where `kind` is known, None if there is none.
        vocabulary: The tokens.
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

    def to_dict(self) -> dict[str, Any]:
        """Its values for JSON, with the vocabulary's fingerprint in place of it."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        vocabulary = values.pop("vocabulary")
        return values | {
            "files": list(self.files),
            "windows": [list(pair) for pair in self.windows],
            "vocabulary_sha256": vocabulary.sha256 if vocabulary else None,
        }

    @property
    def fingerprint(self) -> str:
        """A fingerprint of `to_dict`."""
        return hashlib.sha256(json.dumps(self.to_dict()).encode()).hexdigest()


@dataclass(frozen=True)
class Reading:
    """How examples are read, in training and in evaluations.

    Attributes:
        max_visits: Visit ids are clamped below it, see `ModelConfig.type_vocab_size`.
        masking: How codes are masked. The tutorial's examples are masked already.
        labels: Makers of the objectives' labels.
        max_seq_length: Tokens that are kept of a patient, the first; all if None.
    """

    max_visits: int
    masking: TrainingMasking = field(default_factory=TrainingMasking)
    labels: tuple[LabelMaker, ...] = ()
    max_seq_length: int | None = None


def figures(**by_name: tf.Tensor) -> tf.Tensor:
    """The `RECORD_COUNTS` of records, int64 [B, F] of [B] each."""
    return tf.stack([tf.cast(by_name[name], tf.int64) for name in RECORD_COUNTS], axis=1)


class ExampleSet(ABC):
    """Examples in TFRecord files that were opened.

    Args:
        info: What they hold.
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
        """Endless updates, each epoch in an order of its own.

        Args:
            reading: How they are read.
            batch: How large an update is on average, over all replicas.
            micro_batch_tokens: Positions that a device holds at a time; at least a window of each length.
            replicas: Devices that share an update.
            seed: Of order and masking: that of the training, and the phase.

        Raises:
            UserError: the tutorial's examples are labelled by another threshold.
        """
        return UpdateBatches([self.portion(reading, batch)], micro_batch_tokens, replicas, seed)

    def portion(self, reading: Reading, batch: BatchSize, share: Fraction = Fraction(1)) -> Portion:
        """What updates take of these examples.

        Args:
            reading: How they are read.
            batch: How large an update is on average, over all replicas.
            share: Of the update, that these examples make up.

        Raises:
            UserError: as in `updates`.
        """
        return Portion(self._classes(reading), share * self.fraction(batch), share)

    def fraction(self, batch: BatchSize) -> Fraction:
        """Of these examples, that an update takes which is made of them alone."""
        if batch.patients:
            return Fraction(batch.patients, self.info.patients)
        return Fraction(batch.tokens or 0, self.info.real_tokens)

    def evaluation(
        self, reading: Reading, *, batch_tokens: int, replicas: int, max_batches: int | None = None
    ) -> UpdateBatches:
        """Each window once, in stored order, with windows of each length in every batch; masked always alike.

        Args:
            reading: How they are read.
            batch_tokens: Positions that a device holds at a time; at least a window of each length.
            replicas: Devices that share an evaluation.
            max_batches: Batches at most, of all replicas together; all windows if None.

        Raises:
            UserError: as in `updates`.
        """
        classes = self._classes(reading)

        def positions(batches: int) -> int:
            return sum(-(-each.windows // (batches * replicas)) * each.length for each in classes)

        batches = smallest_fitting(max(each.windows for each in classes), batch_tokens, positions)
        steps = min(batches, max_batches or batches)
        portion = Portion(classes, Fraction(1, batches))
        return UpdateBatches([portion], batch_tokens, replicas, EVALUATION_SEED, steps)

    @abstractmethod
    def _classes(self, reading: Reading) -> Sequence[WindowClass]:
        """The windows, by ascending length."""
