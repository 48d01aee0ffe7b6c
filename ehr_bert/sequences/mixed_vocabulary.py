"""One vocabulary for several corpora, in which the codes of a small one are not crowded out."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ehr_bert.errors import UserError
from ehr_bert.schemas import SpecialToken
from ehr_bert.vocabulary import Vocabulary


@dataclass(frozen=True)
class Survival:
    """What a vocabulary holds of the codes of one corpus.

    Attributes:
        codes: Codes that the corpus' training patients have.
        kept: Of these, how many are in the vocabulary.
        occurrences: The share of their occurrences that the kept ones make up.
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
    """The vocabulary of several corpora together, its codes by falling patient count after amplification.

    The counts that it tells are those of the training patients as they are.

    Args:
        corpora: The vocabulary of each, with the counts of its training patients.
        amplified: How many times the patients of each corpus count.
        size: Tokens at most, special tokens counted: the most frequent ones are kept. All if None.
        min_patients: Codes of fewer patients, as they are, are left out.

    Raises:
        UserError: the numbers of corpora and factors differ, a corpus has no counts, or nothing fits in.
    """
    if len(amplified) != len(corpora):
        raise UserError(f"{len(corpora)} corpora are named and {len(amplified)} amplifications: name as many")
    if min(amplified) <= 0:
        raise UserError(f"an amplification is {min(amplified):g}: it must be above 0")
    special = tuple(token.value for token in SpecialToken)
    if size is not None and size <= len(special):
        raise UserError(
            f"a vocabulary of {size} tokens has no room beside {len(special)} special tokens: raise --size"
        )
    patients: dict[str, int] = defaultdict(int)
    occurrences: dict[str, int] = defaultdict(int)
    weights: dict[str, float] = defaultdict(float)
    for vocabulary, factor in zip(corpora, amplified, strict=True):
        if not any(vocabulary.patients):
            raise UserError("a vocabulary tells no counts: make it with `ehr-bert preprocess`")
        rows = zip(vocabulary.tokens, vocabulary.patients, vocabulary.occurrences, strict=True)
        for token, of_patients, of_visits in rows:
            patients[token] += of_patients
            occurrences[token] += of_visits
            weights[token] += factor * of_patients
    frequent = [token for token in patients if patients[token] >= max(min_patients, 1)]
    ranked = sorted(frequent, key=lambda token: (-weights[token], token))
    tokens = (*special, *ranked)[:size]
    return Vocabulary(
        tokens, tuple(patients[token] for token in tokens), tuple(occurrences[token] for token in tokens)
    )


def survival(corpus: Vocabulary, vocabulary: Vocabulary) -> Survival:
    """What a vocabulary holds of the codes of a corpus whose own vocabulary is `corpus`."""
    codes = [place for place in corpus.code_ids if corpus.patients[place]]
    kept = [place for place in codes if corpus.tokens[place] in vocabulary.ids]
    every = sum(corpus.occurrences[place] for place in codes)
    share = sum(corpus.occurrences[place] for place in kept) / every if every else 1.0
    return Survival(len(codes), len(kept), share)
