"""Labels of objectives in batches.

Objectives are defined in a higher layer. They implement `LabelMaker`, and are passed in with
`ehr_bert.examples.source.Reading`.

Legend: W windows, T tokens of each window, Y patient slots of each window.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import tensorflow as tf


@dataclass(frozen=True)
class StoredWindows:
    """Windows of one length as they are stored, before masking. All tensors are dense.

    Attributes:
        token_ids: int32 `[W, T]`, 0 at padding. The tutorial's examples are stored with masks.
        visit_ids: int32 `[W, T]`, from 1 in each patient; 0 at `[CLS]` and padding.
        position_ids: int32 `[W, T]`, from 0 in each patient.
        patient_ids: int32 `[W, T]`, from 1 in each window; 0 at padding.
        patient_weights: 1 for a patient, 0 for an unused slot, float32 `[W, Y]`.
        by_patient: Further stored features by name, int32 `[W, Y]`. The tutorial's examples have
            `next_sentence_labels`. Packed examples have `longest_stays`; and `days_to_observation_end` and
            `days_to_death`, counted from the last discharge in the window, at least 0. They are -1 if the
            date is unknown or not stored, if `Reading.max_seq_length` cuts the patient, and in unused slots.
    """

    token_ids: tf.Tensor
    visit_ids: tf.Tensor
    position_ids: tf.Tensor
    patient_ids: tf.Tensor
    patient_weights: tf.Tensor
    by_patient: Mapping[str, tf.Tensor]


class LabelMaker(Protocol):
    """Makes the tensors that an objective adds to a batch."""

    def labels(self, windows: StoredWindows) -> dict[str, tf.Tensor]:
        """Return tensors by name, each with the axis W first and one more axis.

        Names with certain endings are treated as `ehr_bert.examples.updates` describes.
        """
        ...


def with_labels(
    tensors: dict[str, tf.Tensor], windows: StoredWindows, makers: Iterable[LabelMaker]
) -> dict[str, tf.Tensor]:
    """Return the tensors of windows with the labels of all makers.

    Raises:
        ValueError: Two makers use the same name, or one uses the name of an input.
    """
    for maker in makers:
        labels = maker.labels(windows)
        if repeated := sorted(labels.keys() & tensors.keys()):
            raise ValueError(f"{type(maker).__name__} makes {', '.join(repeated)}, which exist already")
        tensors = tensors | labels
    return tensors
