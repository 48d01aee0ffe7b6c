"""Masking of codes for the masked language model.

Legend: W windows, P positions of all windows, concatenated, M masked positions, V tokens of the vocabulary.
"""

from dataclasses import dataclass

import numpy as np

from ehr_bert.errors import UserError
from ehr_bert.examples.windows import Windows
from ehr_bert.ragged import starts_of
from ehr_bert.vocabulary import Vocabulary

MASK_SHARE, KEEP_SHARE = 0.8, 0.1
"""Shares of the masked codes that are replaced by `[MASK]` and kept; the others become a random code."""


def maskable_ids(vocabulary: Vocabulary) -> np.ndarray:
    """Return whether each token may be masked, bool `[V]`: codes may, special and context tokens may not.

    Raises:
        UserError: The vocabulary has no codes (key `vocabulary-without-codes`).
    """
    if not len(vocabulary.code_ids):
        raise UserError(
            "vocabulary-without-codes",
            "the vocabulary contains no codes, only special tokens. Use the vocabulary of the sequences.",
        )
    maskable = np.zeros(len(vocabulary), bool)
    maskable[vocabulary.code_ids] = True
    return maskable


@dataclass(frozen=True)
class MaskedWindows:
    """Windows after masking.

    Attributes:
        inputs: Token ids after masking, int32 `[P]`.
        positions: Positions of the masked codes, ascending, int64 `[M]`.
        counts: Number of masked codes per window, int64 `[W]`.
    """

    inputs: np.ndarray
    positions: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True)
class Masking:
    """Masks windows at random.

    Attributes:
        maskable: Whether each token may be masked, bool `[V]`.
        mask_id: Id that replaces a masked code.
        replacements: Ids from which random replacements are drawn uniformly, int32.
        probability: Share of the codes of a window to mask. At least one code is masked.
        max_masked: Maximum number of masked codes per window.
    """

    maskable: np.ndarray
    mask_id: int
    replacements: np.ndarray
    probability: float
    max_masked: int

    @classmethod
    def of(
        cls,
        vocabulary: Vocabulary,
        mask_id: int,
        replacements: np.ndarray,
        probability: float,
        max_masked: int,
    ) -> "Masking":
        """Create a masking of the codes of a vocabulary.

        Raises:
            UserError: The vocabulary has no codes (key `vocabulary-without-codes`).
        """
        return cls(maskable_ids(vocabulary), mask_id, replacements, probability, max_masked)

    def mask(self, windows: Windows, generator: np.random.Generator) -> MaskedWindows:
        """Mask a random choice of the codes of each window.

        Three random numbers are drawn per token, masked or not. The result therefore does not depend on how
        the windows are divided into batches.
        """
        tokens = windows.tokens
        window = np.repeat(np.arange(len(windows.lengths)), windows.lengths)  # [P]
        order_draw, kind_draw, replacement_draw = generator.random((len(tokens), 3)).T  # [P] each

        is_code = self.maskable[tokens]  # [P]
        codes = np.bincount(window, is_code, len(windows.lengths))  # [W]
        wanted = np.maximum(1, np.rint(codes * self.probability))
        counts = np.minimum(np.minimum(wanted, codes), self.max_masked).astype(np.int64)  # [W]

        # One stable sort orders tokens by window, codes by their random number, and special tokens last.
        order = np.argsort(2 * window + np.where(is_code, order_draw, 1.5), kind="stable")
        rank = np.arange(len(tokens)) - np.repeat(starts_of(windows.lengths), windows.lengths)
        positions = np.sort(order[rank < counts[window]])  # [M]

        random_ids = self.replacements[
            (replacement_draw[positions] * len(self.replacements)).astype(np.int64)
        ]
        kept = kind_draw[positions] < MASK_SHARE + KEEP_SHARE
        inputs = tokens.copy()
        inputs[positions] = np.where(kept, tokens[positions], random_ids)
        inputs[positions[kind_draw[positions] < MASK_SHARE]] = self.mask_id
        return MaskedWindows(inputs, positions, counts)
