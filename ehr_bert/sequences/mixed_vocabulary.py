"""One vocabulary for several corpora, in which the codes of a small corpus can be amplified."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ehr_bert.errors import UserError
from ehr_bert.schemas import SpecialToken
from ehr_bert.vocabulary import Vocabulary


@dataclass(frozen=True)
class VocabularyCoverage:
    """Coverage of the codes of one corpus by a vocabulary.

    Attributes:
        codes: Number of codes of the training patients of the corpus.
        kept: Number of these codes that are in the vocabulary.
        occurrences: Share of the occurrences of all these codes that are occurrences of kept codes.
    """

    codes: int
    kept: int
    occurrences: float

    def __str__(self) -> str:
        return f"{self.kept:,} of {self.codes:,} codes, {self.occurrences:.2%} of occurrences"


def mixed_vocabulary(
    corpora: Sequence[Vocabulary],
    amplified: Sequence[float],
    size: int | None = None,
    min_patients: int = 1,
) -> Vocabulary:
    """Create one vocabulary for several corpora, with codes by decreasing amplified patient count.

    The vocabulary records the counts of the training patients without amplification.

    Args:
        corpora: Vocabulary of each corpus, with the counts of its training patients.
        amplified: Factor by which the patients of each corpus are multiplied.
        size: Maximum number of tokens, including special tokens. The most frequent codes are kept; None keeps
            all.
        min_patients: Minimum number of patients of a code, without amplification.

    Raises:
        UserError: The numbers of corpora and factors differ (key `factor-count`), a factor or the size is too
            small (`invalid-setting`), or a corpus has no counts (`vocabulary-without-counts`).
    """
    if len(amplified) != len(corpora):
        raise UserError(
            "factor-count",
            f"the number of amplification factors is {len(amplified)}, but there are {len(corpora)} corpora. "
            "Give one factor per corpus.",
        )
    if min(amplified) <= 0:
        raise UserError("invalid-setting", f"amplification must be above 0, not {min(amplified):g}.")
    special = tuple(token.value for token in SpecialToken)
    if size is not None and size <= len(special):
        raise UserError(
            "invalid-setting",
            f"--size must be more than the {len(special)} special tokens of each vocabulary, not {size}.",
        )
    patients: dict[str, int] = defaultdict(int)
    occurrences: dict[str, int] = defaultdict(int)
    weights: dict[str, float] = defaultdict(float)
    for vocabulary, factor in zip(corpora, amplified, strict=True):
        if not any(vocabulary.patients):
            raise UserError(
                "vocabulary-without-counts",
                "a vocabulary has no patient counts. Create it with `ehr-bert preprocess`.",
            )
        rows = zip(vocabulary.tokens, vocabulary.patients, vocabulary.occurrences, strict=True)
        for token, token_patients, token_occurrences in rows:
            patients[token] += token_patients
            occurrences[token] += token_occurrences
            weights[token] += factor * token_patients
    frequent = [token for token in patients if patients[token] >= max(min_patients, 1)]
    ranked = sorted(frequent, key=lambda token: (-weights[token], token))
    tokens = (*special, *ranked)[:size]
    return Vocabulary(
        tokens, tuple(patients[token] for token in tokens), tuple(occurrences[token] for token in tokens)
    )


def vocabulary_coverage(corpus: Vocabulary, vocabulary: Vocabulary) -> VocabularyCoverage:
    """Return how much of a corpus, given by its vocabulary `corpus`, another vocabulary covers."""
    codes = [index for index in corpus.code_ids if corpus.patients[index]]
    kept = [index for index in codes if corpus.tokens[index] in vocabulary.ids]
    total = sum(corpus.occurrences[index] for index in codes)
    share = sum(corpus.occurrences[index] for index in kept) / total if total else 1.0
    return VocabularyCoverage(len(codes), len(kept), share)
