"""Masking in training: which codes of packed windows are hidden this time, as TensorFlow ops.

Legend: W windows, T positions of each, P places for masked codes of each, S places for patients of each.
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
        probability: The share of a window's codes to mask; one of each patient's at least.
        mask_share: The share of the masked codes that become `[MASK]`.
        random_share: The share that becomes a random code; the rest stays as it is.

    Raises:
        UserError: a share is out of range.
    """

    probability: float = 0.15
    mask_share: float = 0.8
    random_share: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.probability <= 1:
            raise UserError(f"the masking's probability is {self.probability}: it must be above 0, at most 1")
        if min(self.mask_share, self.random_share) < 0 or self.mask_share + self.random_share > 1 + 1e-9:
            raise UserError(
                f"mask_share is {self.mask_share} and random_share {self.random_share}: neither may be below "
                "0, nor both together above 1"
            )

    def places(self, window_length: int, most_patients: int) -> int:
        """P, room for the masked codes of a window: a share of its positions, but one a patient at least."""
        return max(round(self.probability * window_length), most_patients)


@dataclass(frozen=True)
class MaskedTrainingWindows:
    """Windows after masking; of unused places all three are 0.

    Attributes:
        token_ids: What the model sees, int32 [W, T].
        places: Places of the masked codes in their window, int32 [W, P].
        ids: What stood there, int32 [W, P].
        weights: 1 for a masked code, float32 [W, P].
    """

    token_ids: tf.Tensor
    places: tf.Tensor
    ids: tf.Tensor
    weights: tf.Tensor


class TrainingMasker:
    """Masks windows.

    Args:
        masking: How.
        vocabulary: Whose codes may be masked, and may replace others.
        places: P.
        patients: S.
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
        """Masks a random choice of each window's codes, which follows from the seed alone.

        Args:
            token_ids: int32 [W, T], 0 at padding.
            patient_ids: int32 [W, T], from 1 to S, 0 at padding.
            seed: int64 [2].
        """
        windows, length = token_ids.shape
        choice_seed, kind_seed, replacement_seed = tf.unstack(tf.random.split(seed, 3, alg="philox"))
        is_code = tf.gather(self._maskable, token_ids)  # [W, T]

        # No two scores of a window are equal: the highest of each patient is one code.
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
        places = tf.math.top_k(scores, self._places).indices  # [W, P]
        masked = tf.range(self._places) < counts[:, None]  # [W, P]
        ids = tf.gather(token_ids, places, batch_dims=1)  # [W, P]

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
