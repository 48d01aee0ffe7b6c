"""Reads tutorial examples into batches. They were masked when they were written.

Each example is a window of one patient, truncated or padded to T tokens.

Legend: W windows, T tokens of each, X slots for masked codes of each.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import tensorflow as tf

from ehr_bert.examples.labels import LabelMaker, StoredWindows, with_labels
from ehr_bert.examples.records import Checked
from ehr_bert.examples.source import ExampleSet, ExamplesInfo, Reading, figures
from ehr_bert.examples.updates import WindowClass

TUTORIAL_FEATURES: dict[str, tf.DType] = {
    "input_ids": tf.int64,
    "input_mask": tf.int64,
    "segment_ids": tf.int64,
    "masked_lm_positions": tf.int64,
    "masked_lm_ids": tf.int64,
    "masked_lm_weights": tf.float32,
    "next_sentence_labels": tf.int64,
}
"""Stored features and their types."""


def parse_tutorial(serialized: tf.Tensor) -> dict[str, tf.RaggedTensor]:
    """Parse the stored features, with one row per example, as long as it is stored."""
    return tf.io.parse_example(
        serialized, {name: tf.io.RaggedFeature(dtype) for name, dtype in TUTORIAL_FEATURES.items()}
    )


def measure(stored: Mapping[str, tf.RaggedTensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """Return whether each of N examples is valid, bool `[N]`, and its `RECORD_COUNTS`, int64 `[N, G]`."""
    tokens, masked = stored["input_ids"].row_lengths(), stored["masked_lm_ids"].row_lengths()
    sound = (
        (tokens > 0)
        & (stored["input_mask"].row_lengths() == tokens)
        & (stored["segment_ids"].row_lengths() == tokens)
        & (stored["masked_lm_positions"].row_lengths() == masked)
        & (stored["masked_lm_weights"].row_lengths() == masked)
        & (tf.reduce_min(stored["input_ids"], axis=1) >= 0)
    )
    real = tf.reduce_sum(stored["input_mask"], axis=1)
    ids = tf.concat([stored["input_ids"], stored["masked_lm_ids"]], axis=1)
    return sound, figures(
        patients=tf.ones_like(real),
        real_tokens=real,
        longest=real,
        max_seq_length=tokens,
        max_predictions_per_seq=masked,
        max_id=tf.reduce_max(ids, axis=1),
    )


@dataclass(frozen=True)
class TutorialDecoder:
    """Decodes the tutorial's examples, see `WindowClass.decode`.

    Attributes:
        length: Tokens of a window, T.
        masked: Number of slots for masked codes, X.
        max_visits: Visit ids are limited to values below it.
        labels: Makers of the objectives' labels.
    """

    length: int
    masked: int
    max_visits: int
    labels: tuple[LabelMaker, ...]

    def __call__(self, serialized: tf.Tensor, _: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the tensors of a batch, by window."""
        stored = parse_tutorial(serialized)
        windows = serialized.shape[0]

        def rows(name: str, width: int) -> tf.Tensor:  # [W, width]
            dense = tf.ensure_shape(stored[name].to_tensor(shape=[windows, width]), [windows, width])
            return dense if dense.dtype == tf.float32 else tf.cast(dense, tf.int32)

        real = rows("input_mask", self.length)
        places = rows("masked_lm_positions", self.masked)
        weights = rows("masked_lm_weights", self.masked)
        seen = (weights > 0) & (places < self.length)
        # An empty record is an empty window.
        present = tf.strings.length(serialized)[:, None] > 0
        windows_as_stored = StoredWindows(
            token_ids=rows("input_ids", self.length),
            visit_ids=rows("segment_ids", self.length),
            position_ids=tf.range(self.length) * real,
            patient_ids=real,
            patient_weights=tf.cast(present, tf.float32),
            by_patient={"next_sentence_labels": rows("next_sentence_labels", 1)},
        )
        tensors = {
            "token_ids": windows_as_stored.token_ids,
            "visit_ids": tf.minimum(windows_as_stored.visit_ids, self.max_visits - 1),
            "position_ids": windows_as_stored.position_ids,
            "patient_ids": windows_as_stored.patient_ids,
            "masked_places": tf.where(seen, places, 0),
            "masked_ids": tf.where(seen, rows("masked_lm_ids", self.masked), 0),
            "masked_weights": tf.cast(seen, tf.float32),
            "patient_places": tf.zeros([windows, 1], tf.int32),
            "patient_weights": windows_as_stored.patient_weights,
        }
        return with_labels(tensors, windows_as_stored, self.labels)


class TutorialExamples(ExampleSet):
    """Tutorial examples: windows of one length, at most that of the longest example.

    Args:
        info: Description of the files.
        checked: Result of the check of each file.
    """

    def __init__(self, info: ExamplesInfo, checked: Iterable[Checked]) -> None:
        super().__init__(info)
        self._stretches = tuple(stretch for file in checked for stretch in file.stretches)

    def _classes(self, reading: Reading) -> list[WindowClass]:
        length = min(reading.max_seq_length or self.info.longest, self.info.longest)
        masked = self.info.max_predictions_per_seq or 1
        decoder = TutorialDecoder(length, masked, reading.max_visits, reading.labels)
        return [WindowClass(self._stretches, length, masked, 1, decoder)]
