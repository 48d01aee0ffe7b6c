"""Which tokens an export keeps, so that none tells of a few patients, and how it reads the others."""

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
    """The tokens of an export, beside those of the model that was trained.

    Attributes:
        tokens: By their id in the export, V' of them.
        rows: Of each, its id in the model: ascending, int [V'].
        ids: Of each token of the model, the id in the export that it is read as: int [V].
        min_patients: Tokens of fewer patients are left out; None where the vocabulary has no counts.
        to_heading: Tokens that are left out, and read as a heading above them.
        to_unknown: Tokens that are left out, and read as `[UNK]`.
    """

    tokens: tuple[str, ...]
    rows: np.ndarray
    ids: np.ndarray
    min_patients: int | None
    to_heading: int
    to_unknown: int

    @property
    def left_out(self) -> int:
        """Tokens that are left out."""
        return self.to_heading + self.to_unknown

    @property
    def sha256(self) -> str:
        """A fingerprint as `Vocabulary.sha256`, of the kept tokens alone: it gives no other away."""
        return hashlib.sha256("\n".join(self.tokens).encode()).hexdigest()

    def __str__(self) -> str:
        if self.min_patients is None:
            return (
                "the vocabulary has no counts, so all codes are kept, those of few patients too; "
                "`ehr-bert preprocess TABLE OUT --vocabulary FILE` counts them, then name OUT/vocabulary.tsv "
                "(--vocab_file)"
            )
        if self.min_patients == 0:
            return "all codes are kept, however few patients have them"
        if self.left_out == 0:
            return f"all codes are kept, none of fewer than {self.min_patients} patients"
        return (
            f"{self.left_out:,} codes of fewer than {self.min_patients} patients are left out: "
            f"{self.to_heading:,} are read as a heading above them, {self.to_unknown:,} as [UNK]"
        )


def kept_tokens(tokens: Sequence[str], vocabulary: Vocabulary, min_patients: int) -> KeptTokens:
    """Leaves out what too few patients have.

    What is left out is read as the next heading above it that is kept, else as `[UNK]`. That needs no list of
    it: the tokenizer reads any code so that it doesn't know.

    Args:
        tokens: By their id in the model, V of them.
        vocabulary: Tells how many patients of the training split have each.
        min_patients: Tokens of fewer are left out; special and unused ones stay.

    Raises:
        UserError: something is left out, and the model has no `[UNK]` to read it as.
    """
    counted = any(vocabulary.patients)
    patients = dict(zip(vocabulary.tokens, vocabulary.patients, strict=True))
    rows = [
        row
        for row, token in enumerate(tokens)
        if not counted or _is_no_code(token) or patients[token] >= min_patients
    ]
    kept = {tokens[row]: index for index, row in enumerate(rows)}
    unknown = kept.get(SpecialToken.UNK, -1)
    if unknown < 0 and len(kept) < len(tokens):
        raise UserError(
            f"the model has codes of fewer than {min_patients} patients, and no [UNK] to read them as: "
            "keep them all (--min-patients 0)"
        )
    left_out = {
        token: next((kept[heading] for heading in ancestors(token) if heading in kept), unknown)
        for token in tokens
        if token not in kept
    }
    read_as = kept | left_out
    to_unknown = sum(index == unknown for index in left_out.values())
    return KeptTokens(
        tokens=tuple(kept),
        rows=np.array(rows),
        ids=np.array([read_as[token] for token in tokens]),
        min_patients=min_patients if counted or min_patients == 0 else None,
        to_heading=len(left_out) - to_unknown,
        to_unknown=to_unknown,
    )


def _is_no_code(token: str) -> bool:
    return token in SPECIAL or token.startswith("[unused")
