"""Masking of packed windows in training, as TensorFlow operations.

Legend: W windows, T tokens of each, X slots for masked codes of each, Y slots for patients of each.
"""

from dataclasses import dataclass

import tensorflow as tf

from ehr_bert.errors import UserError
from ehr_bert.examples.masking import maskable_ids
from ehr_bert.schemas import SpecialToken
from ehr_bert.vocabulary import Vocabulary


@dataclass(frozen=True)
class TrainingMasking:
    """How codes are masked in training.

    Attributes:
        probability: Share of a window's codes to mask; at least one code per patient.
        mask_share: Share of the masked codes that become `[MASK]`.
        random_share: Share of the masked codes that become a random code. The rest is unchanged.

    Raises:
        UserError: A share is out of range (key `share-out-of-range`).
    """

    probability: float = 0.15
    mask_share: float = 0.8
    random_share: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.probability <= 1:
            raise UserError(
                "share-out-of-range",
                f"the masking probability is {self.probability}. It must be above 0 and at most 1.",
            )
        if min(self.mask_share, self.random_share) < 0 or self.mask_share + self.random_share > 1 + 1e-9:
            raise UserError(
                "share-out-of-range",
                f"mask_share is {self.mask_share} and random_share is {self.random_share}. They must be at "
                "least 0, and their sum at most 1.",
            )

    def places(self, window_length: int, most_patients: int) -> int:
        """Return X: the share of a window's positions, but at least one slot per patient."""
        return max(round(self.probability * window_length), most_patients)


@dataclass(frozen=True)
class MaskedTrainingWindows:
    """Windows after masking. In unused slots, places, ids and weights are 0.

    Attributes:
        token_ids: Input of the model, int32 `[W, T]`.
        places: Positions of the masked codes in their window, int32 `[W, X]`.
        ids: Original ids of the masked codes, int32 `[W, X]`.
        weights: 1 for a masked code, float32 `[W, X]`.
    """

    token_ids: tf.Tensor
    places: tf.Tensor
    ids: tf.Tensor
    weights: tf.Tensor


class TrainingMasker:
    """Masks windows.

    Args:
        masking: How codes are masked.
        vocabulary: Vocabulary. Its codes may be masked, and may replace others.
        places: Number of slots for masked codes, X.
        patients: Number of slots for patients, Y.
    """

    def __init__(self, masking: TrainingMasking, vocabulary: Vocabulary, places: int, patients: int) -> None:
        self._masking = masking
        self._mask_id = vocabulary.id_of(SpecialToken.MASK)
        self._code_ids = vocabulary.code_ids
        self._maskable = maskable_ids(vocabulary)
        self._places = places
        self._patients = patients

    def __call__(
        self, token_ids: tf.Tensor, patient_ids: tf.Tensor, seed: tf.Tensor
    ) -> MaskedTrainingWindows:
        """Mask random codes of each window. They depend only on the seed.

        Args:
            token_ids: int32 `[W, T]`, 0 at padding.
            patient_ids: int32 `[W, T]`, from 1 to Y, 0 at padding.
            seed: int64 `[2]`.
        """
        windows, length = token_ids.shape
        choice_seed, kind_seed, replacement_seed = tf.unstack(tf.random.split(seed, 3, alg="philox"))
        is_code = tf.gather(self._maskable, token_ids)  # [W, T]

        # No two scores of a window are equal, so that the highest of each patient is one code.
        draws = tf.random.stateless_uniform(
            [windows, length], choice_seed, 0, tf.int32.max, tf.int32, alg="philox"
        )
        scores = tf.cast(draws, tf.int64) * length + tf.range(length, dtype=tf.int64)
        scores = tf.where(is_code, scores, -1)  # [W, T]
        patient = tf.range(windows)[:, None] * (self._patients + 1) + patient_ids  # [W, T], over all windows
        highest = tf.math.unsorted_segment_max(scores, patient, windows * (self._patients + 1))
        is_first = is_code & (scores == tf.gather(highest, patient))  # [W, T]
        scores += tf.where(is_first, tf.constant(1 << 60, tf.int64), 0)

        codes = tf.reduce_sum(tf.cast(is_code, tf.float32), axis=1)  # [W]
        wanted = tf.cast(tf.round(self._masking.probability * codes), tf.int32)
        patients = tf.reduce_sum(tf.cast(is_first, tf.int32), axis=1)
        counts = tf.minimum(tf.maximum(wanted, patients), self._places)  # [W]
        places = tf.math.top_k(scores, self._places).indices  # [W, X]
        masked = tf.range(self._places) < counts[:, None]  # [W, X]
        ids = tf.gather(token_ids, places, batch_dims=1)  # [W, X]

        shape = [windows, self._places]
        kind = tf.random.stateless_uniform(shape, kind_seed, alg="philox")
        random_code = tf.random.stateless_uniform(
            shape, replacement_seed, 0, len(self._code_ids), tf.int32, alg="philox"
        )
        mask_share, random_share = self._masking.mask_share, self._masking.random_share
        seen = tf.where(
            kind < mask_share,
            self._mask_id,
            tf.where(kind < mask_share + random_share, tf.gather(self._code_ids, random_code), ids),
        )
        rows = tf.broadcast_to(tf.range(windows)[:, None], shape)
        token_ids = tf.tensor_scatter_nd_update(
            token_ids, tf.stack([rows, places], axis=-1), tf.where(masked, seen, ids)
        )
        return MaskedTrainingWindows(
            token_ids, tf.where(masked, places, 0), tf.where(masked, ids, 0), tf.cast(masked, tf.float32)
        )
