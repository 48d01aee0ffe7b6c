"""Masking: which codes of a window are hidden from the model, and what stands in their place.

Legend: W windows, N tokens of all windows together, M masked codes of all windows together.
"""

from dataclasses import dataclass

import numpy as np

from ehr_bert.errors import UserError
from ehr_bert.examples.windows import Windows
from ehr_bert.ragged import starts_of
from ehr_bert.vocabulary import Vocabulary

MASK_SHARE, KEEP_SHARE = 0.8, 0.1
"""Shares of the masked codes that become `[MASK]` and that stay; the rest become a random code."""


def maskable_ids(vocabulary: Vocabulary) -> np.ndarray:
    """Whether a token id may be masked, bool [V]: codes may, special and context tokens may not.

    Raises:
        UserError: the vocabulary has no codes.
    """
    if not len(vocabulary.code_ids):
        raise UserError("the vocabulary names no codes, only special tokens: make it from the data")
    maskable = np.zeros(len(vocabulary), bool)
    maskable[vocabulary.code_ids] = True
    return maskable


@dataclass(frozen=True)
class MaskedWindows:
    """Windows after masking.

    Attributes:
        inputs: What the model sees, int32 [N].
        places: Places of the masked codes among all tokens, ascending, int64 [M].
        counts: Masked codes a window, int64 [W].
    """

    inputs: np.ndarray
    places: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True)
class Masking:
    """How windows are masked.

    Attributes:
        maskable: Whether a token id may be masked, bool [V].
        mask_id: The id that hides a code.
        replacements: The ids that a random replacement is drawn from, each as likely, int32.
        probability: The share of a window's codes to mask; one code at least.
        most: Masked codes a window at most.
    """

    maskable: np.ndarray
    mask_id: int
    replacements: np.ndarray
    probability: float
    most: int

    @classmethod
    def of(
        cls, vocabulary: Vocabulary, mask_id: int, replacements: np.ndarray, probability: float, most: int
    ) -> "Masking":
        """Masking of codes, never of special tokens.

        Raises:
            UserError: the vocabulary has no codes.
        """
        return cls(maskable_ids(vocabulary), mask_id, replacements, probability, most)

    def mask(self, windows: Windows, generator: np.random.Generator) -> MaskedWindows:
        """Masks a random choice of each window's codes.

        Every token takes three draws, masked or not: so the choice doesn't depend on how the windows of
        one generator are divided into batches.
        """
        tokens = windows.tokens
        window = np.repeat(np.arange(len(windows.lengths)), windows.lengths)  # [N]
        order_draw, kind_draw, replacement_draw = generator.random((len(tokens), 3)).T  # [N] each

        is_code = self.maskable[tokens]  # [N]
        codes = np.bincount(window, is_code, len(windows.lengths))  # [W]
        wanted = np.maximum(1, np.rint(codes * self.probability))
        counts = np.minimum(np.minimum(wanted, codes), self.most).astype(np.int64)  # [W]

        # Window by window, codes in the order of their draws, then special tokens: one stable sort.
        order = np.argsort(2 * window + np.where(is_code, order_draw, 1.5), kind="stable")
        rank = np.arange(len(tokens)) - np.repeat(starts_of(windows.lengths), windows.lengths)
        places = np.sort(order[rank < counts[window]])  # [M]

        random_ids = self.replacements[(replacement_draw[places] * len(self.replacements)).astype(np.int64)]
        kept = kind_draw[places] < MASK_SHARE + KEEP_SHARE
        inputs = tokens.copy()
        inputs[places] = np.where(kept, tokens[places], random_ids)
        inputs[places[kind_draw[places] < MASK_SHARE]] = self.mask_id
        return MaskedWindows(inputs, places, counts)
