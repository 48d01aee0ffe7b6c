"""The tokens that an export keeps. Rare codes are omitted, because they could reveal a few patients."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ehr_bert.codes.headings import ancestors
from ehr_bert.errors import UserError
from ehr_bert.schemas import SpecialToken
from ehr_bert.vocabulary import Vocabulary

SPECIAL = frozenset(token.value for token in SpecialToken)


@dataclass(frozen=True)
class KeptTokens:
    """The tokens of an export, and how they relate to the tokens of the trained model.

    Attributes:
        tokens: The V tokens of the export, in the order of their ids.
        rows: Their ids in the trained model, ascending, int `[V]`.
        ids: For each of the Q tokens of the trained model, the id that the export reads it as, int `[Q]`.
        min_patients: Codes of fewer patients are omitted. None if the vocabulary has no counts.
        to_heading: Number of omitted tokens that are read as a heading above them.
        to_unknown: Number of omitted tokens that are read as `[UNK]`.
    """

    tokens: tuple[str, ...]
    rows: np.ndarray
    ids: np.ndarray
    min_patients: int | None
    to_heading: int
    to_unknown: int

    @property
    def omitted(self) -> int:
        """Number of omitted tokens."""
        return self.to_heading + self.to_unknown

    @property
    def sha256(self) -> str:
        """Fingerprint of the kept tokens, as `Vocabulary.sha256`. It does not depend on omitted tokens."""
        return hashlib.sha256("\n".join(self.tokens).encode()).hexdigest()

    def __str__(self) -> str:
        if self.min_patients is None:
            return (
                "the vocabulary has no counts, so all codes are kept, including those of few patients. To "
                "count them, run `ehr-bert preprocess TABLE OUT --vocabulary FILE` and pass "
                "OUT/vocabulary.tsv as --vocab-file (--vocab_file in the tutorial)."
            )
        if self.min_patients == 0:
            return "all codes are kept, including those of few patients"
        if self.omitted == 0:
            return f"all codes are kept, because each has {self.min_patients} patients or more"
        return (
            f"{self.omitted:,} codes of fewer than {self.min_patients} patients are omitted: "
            f"{self.to_heading:,} are read as a heading above them, {self.to_unknown:,} as [UNK]"
        )


def kept_tokens(tokens: Sequence[str], vocabulary: Vocabulary, min_patients: int) -> KeptTokens:
    """Select the tokens to keep, without the codes that too few patients have.

    An omitted code is read as the nearest heading above it that is kept, else as `[UNK]`. The export needs no
    list of omitted codes for this, because the tokenizer reads every unknown code in this way.

    Args:
        tokens: The Q tokens of the trained model, in the order of their ids.
        vocabulary: Provides the number of patients of the training split per token.
        min_patients: Codes of fewer patients are omitted. Special and unused tokens are kept.

    Raises:
        UserError: A code would be omitted, and the model has no `[UNK]` (key `no-unknown-token`).
    """
    counted = any(vocabulary.patients)
    patients = dict(zip(vocabulary.tokens, vocabulary.patients, strict=True))
    rows = [
        row
        for row, token in enumerate(tokens)
        if not counted or _is_special(token) or patients[token] >= min_patients
    ]
    kept = {tokens[row]: index for index, row in enumerate(rows)}
    unknown = kept.get(SpecialToken.UNK, -1)
    if unknown < 0 and len(kept) < len(tokens):
        raise UserError(
            "no-unknown-token",
            f"the model has codes of fewer than {min_patients} patients, but no [UNK] to replace them. "
            "Keep all codes with --min-patients 0.",
        )
    omitted = {
        token: next((kept[heading] for heading in ancestors(token) if heading in kept), unknown)
        for token in tokens
        if token not in kept
    }
    read_as = kept | omitted
    to_unknown = sum(index == unknown for index in omitted.values())
    return KeptTokens(
        tokens=tuple(kept),
        rows=np.array(rows),
        ids=np.array([read_as[token] for token in tokens]),
        min_patients=min_patients if counted or min_patients == 0 else None,
        to_heading=len(omitted) - to_unknown,
        to_unknown=to_unknown,
    )


def _is_special(token: str) -> bool:
    return token in SPECIAL or token.startswith("[unused")
