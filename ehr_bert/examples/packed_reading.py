"""From packed windows to what a batch holds of them, masked afresh.

Legend: W windows, T positions of each, P places for masked codes of each, S places for patients of each.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from ehr_bert.examples.labels import LabelMaker, StoredWindows, with_labels
from ehr_bert.examples.records import Checked
from ehr_bert.examples.source import RECORD_COUNTS, ExampleSet, ExamplesInfo, Reading, figures
from ehr_bert.examples.training_masking import TrainingMasker
from ehr_bert.examples.updates import WindowClass
from ehr_bert.vocabulary import Vocabulary

PACKED_FEATURES = ("token_ids", "visit_ids", "patient_lengths", "longest_stays")


def parse_packed(serialized: tf.Tensor) -> dict[str, tf.RaggedTensor]:
    """The stored features, int64: a row a window."""
    feature = tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64)
    return tf.io.parse_example(serialized, dict.fromkeys(PACKED_FEATURES, feature))


@dataclass(frozen=True)
class PackedMeasure:
    """Judges packed windows.

    Attributes:
        window_length: Tokens of a window at most.
        vocab_size: Ids of the vocabulary.
    """

    window_length: int
    vocab_size: int

    def __call__(self, stored: Mapping[str, tf.RaggedTensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Whether each example is such a window, bool [B], and its `RECORD_COUNTS`, int64 [B, F]."""
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
        length: T.
        patients: S.
        masker: Masks the windows.
        labels: Makers of the objectives' labels.
        max_visits: Visit ids are clamped below it.
        max_seq_length: Tokens that are kept of a patient, the first.
    """

    length: int
    patients: int
    masker: TrainingMasker
    labels: tuple[LabelMaker, ...]
    max_visits: int
    max_seq_length: int

    def __call__(self, serialized: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        """What a batch holds of the windows, by window."""
        stored = parse_packed(serialized)
        windows = serialized.shape[0]

        def rows(name: str, width: int) -> tf.Tensor:  # [W, width]
            dense = tf.ensure_shape(stored[name].to_tensor(shape=[windows, width]), [windows, width])
            return tf.cast(dense, tf.int32)

        lengths = rows("patient_lengths", self.patients)  # [W, S]
        ends = tf.cumsum(lengths, axis=1)
        starts = ends - lengths
        places = tf.broadcast_to(tf.range(self.length), [windows, self.length])  # [W, T]
        patient = tf.searchsorted(ends, places, side="right")  # [W, T], S after the last
        starts_there = tf.gather(starts, tf.minimum(patient, self.patients - 1), batch_dims=1)
        kept = (places < ends[:, -1:]) & (places - starts_there < self.max_seq_length)

        def where_kept(values: tf.Tensor) -> tf.Tensor:
            return tf.where(kept, values, 0)

        present = lengths > 0
        windows_as_stored = StoredWindows(
            token_ids=where_kept(rows("token_ids", self.length)),
            visit_ids=where_kept(rows("visit_ids", self.length)),
            position_ids=where_kept(places - starts_there),
            patient_ids=where_kept(patient + 1),
            patient_weights=tf.cast(present, tf.float32),
            by_patient={"longest_stays": rows("longest_stays", self.patients)},
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
        info: What the files hold.
        checked: What was found in each file.
        lengths: The length of the windows of each file.
        vocabulary: Their tokens.
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
            length: [found for file, found in checked.items() if lengths[file] == length and found.records]
            for _, length in info.windows
        }

    def _classes(self, reading: Reading) -> list[WindowClass]:
        classes = []
        for length, files in self._files.items():
            patients = max(found.largest[RECORD_COUNTS.index("patients")] for found in files)
            places = reading.masking.places(length, patients)
            decoder = PackedDecoder(
                length=length,
                patients=patients,
                masker=TrainingMasker(reading.masking, self._vocabulary, places, patients),
                labels=reading.labels,
                max_visits=reading.max_visits,
                max_seq_length=reading.max_seq_length or length,
            )
            stretches = tuple(stretch for found in files for stretch in found.stretches)
            classes.append(WindowClass(stretches, length, places, patients, decoder))
        return classes
