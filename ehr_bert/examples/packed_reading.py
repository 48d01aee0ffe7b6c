"""Reads packed windows into batches, and masks them.

Legend: W windows, T tokens of each, X slots for masked codes of each, Y slots for patients of each.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from ehr_bert.examples.labels import LabelMaker, StoredWindows, with_labels
from ehr_bert.examples.observation import DAYS_TO, UNKNOWN_DAYS
from ehr_bert.examples.records import Checked
from ehr_bert.examples.source import RECORD_COUNTS, ExampleSet, ExamplesInfo, Reading, figures
from ehr_bert.examples.training_masking import TrainingMasker
from ehr_bert.examples.updates import WindowClass
from ehr_bert.vocabulary import Vocabulary

PACKED_FEATURES = ("token_ids", "visit_ids", "patient_lengths", "longest_stays", *DAYS_TO)
"""The features that are read. Those of `DAYS_TO` are empty where they are not stored."""


def parse_packed(serialized: tf.Tensor) -> dict[str, tf.RaggedTensor]:
    """Parse the stored features, int64, with one row per window."""
    feature = tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64)
    return tf.io.parse_example(serialized, dict.fromkeys(PACKED_FEATURES, feature))


@dataclass(frozen=True)
class PackedMeasure:
    """Validates packed windows.

    Attributes:
        window_length: Largest number of tokens of a window.
        vocab_size: Number of ids of the vocabulary.
        observation: Whether the features of `DAYS_TO` are stored.
    """

    window_length: int
    vocab_size: int
    observation: bool

    def __call__(self, stored: Mapping[str, tf.RaggedTensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Return whether each of N examples is a valid window, bool `[N]`, and its counts, int64 `[N, G]`."""
        tokens, lengths = stored["token_ids"], stored["patient_lengths"]
        real, patients = tokens.row_lengths(), lengths.row_lengths()
        sound = (
            (patients > 0)
            & (real <= self.window_length)
            & (stored["visit_ids"].row_lengths() == real)
            & (stored["longest_stays"].row_lengths() == patients)
            & (tf.reduce_sum(lengths, axis=1) == real)
            & (tf.reduce_min(lengths, axis=1) > 0)
            & (tf.reduce_min(tokens, axis=1) >= 0)
            & (tf.reduce_max(tokens, axis=1) < self.vocab_size)
        )
        for name in DAYS_TO:
            sound &= stored[name].row_lengths() == (patients if self.observation else 0)
            sound &= tf.reduce_min(stored[name], axis=1) >= UNKNOWN_DAYS
        return sound, figures(
            patients=patients,
            real_tokens=real,
            longest=tf.reduce_max(lengths, axis=1),
            max_seq_length=tf.fill(tf.shape(real), self.window_length),
            max_predictions_per_seq=tf.zeros_like(real),
            max_id=tf.reduce_max(tokens, axis=1),
        )


@dataclass(frozen=True)
class PackedDecoder:
    """Decodes packed windows of one length, see `WindowClass.decode`.

    Attributes:
        length: Tokens of a window, T.
        patients: Number of slots for patients, Y.
        masker: Masks the windows.
        labels: Makers of the objectives' labels.
        max_visits: Visit ids are limited to values below it.
        max_seq_length: Number of first tokens of a patient to keep.
    """

    length: int
    patients: int
    masker: TrainingMasker
    labels: tuple[LabelMaker, ...]
    max_visits: int
    max_seq_length: int

    def __call__(self, serialized: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the tensors of a batch, by window."""
        stored = parse_packed(serialized)
        windows = serialized.shape[0]

        def rows(name: str, width: int, missing: int = 0) -> tf.Tensor:  # [W, width]
            dense = stored[name].to_tensor(missing, shape=[windows, width])
            return tf.cast(tf.ensure_shape(dense, [windows, width]), tf.int32)

        lengths = rows("patient_lengths", self.patients)  # [W, Y]
        ends = tf.cumsum(lengths, axis=1)
        starts = ends - lengths
        places = tf.broadcast_to(tf.range(self.length), [windows, self.length])  # [W, T]
        patient = tf.searchsorted(ends, places, side="right")  # [W, T], Y after the last
        starts_there = tf.gather(starts, tf.minimum(patient, self.patients - 1), batch_dims=1)
        kept = (places < ends[:, -1:]) & (places - starts_there < self.max_seq_length)

        def where_kept(values: tf.Tensor) -> tf.Tensor:
            return tf.where(kept, values, 0)

        present = lengths > 0
        is_whole = lengths <= self.max_seq_length
        windows_as_stored = StoredWindows(
            token_ids=where_kept(rows("token_ids", self.length)),
            visit_ids=where_kept(rows("visit_ids", self.length)),
            position_ids=where_kept(places - starts_there),
            patient_ids=where_kept(patient + 1),
            patient_weights=tf.cast(present, tf.float32),
            by_patient={
                "longest_stays": rows("longest_stays", self.patients),
                # Days count from the last stored visit, which is not there if the patient is cut.
                **{
                    name: tf.where(is_whole, rows(name, self.patients, UNKNOWN_DAYS), UNKNOWN_DAYS)
                    for name in DAYS_TO
                },
            },
        )
        masked = self.masker(windows_as_stored.token_ids, windows_as_stored.patient_ids, seed)
        tensors = {
            "token_ids": masked.token_ids,
            "visit_ids": tf.minimum(windows_as_stored.visit_ids, self.max_visits - 1),
            "position_ids": windows_as_stored.position_ids,
            "patient_ids": windows_as_stored.patient_ids,
            "masked_places": masked.places,
            "masked_ids": masked.ids,
            "masked_weights": masked.weights,
            "patient_places": tf.where(present, starts, 0),
            "patient_weights": windows_as_stored.patient_weights,
        }
        return with_labels(tensors, windows_as_stored, self.labels)


class PackedExamples(ExampleSet):
    """Packed windows of several lengths.

    Args:
        info: Description of the files.
        checked: Result of the check of each file.
        lengths: Window length of each file.
        vocabulary: Vocabulary of the windows.
    """

    def __init__(
        self,
        info: ExamplesInfo,
        checked: Mapping[Path, Checked],
        lengths: Mapping[Path, int],
        vocabulary: Vocabulary,
    ) -> None:
        super().__init__(info)
        self._vocabulary = vocabulary
        self._files: dict[int, list[Checked]] = {
            length: [
                records for file, records in checked.items() if lengths[file] == length and records.records
            ]
            for _, length in info.windows
        }

    def _classes(self, reading: Reading) -> list[WindowClass]:
        classes = []
        for length, files in self._files.items():
            patients = max(file.largest[RECORD_COUNTS.index("patients")] for file in files)
            places = reading.masking.places(length, patients)
            decoder = PackedDecoder(
                length=length,
                patients=patients,
                masker=TrainingMasker(reading.masking, self._vocabulary, places, patients),
                labels=reading.labels,
                max_visits=reading.max_visits,
                max_seq_length=reading.max_seq_length or length,
            )
            stretches = tuple(stretch for file in files for stretch in file.stretches)
            classes.append(WindowClass(stretches, length, places, patients, decoder))
        return classes
