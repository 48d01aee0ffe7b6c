"""The vocabulary: which token has which id, and how often it was seen."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ehr_bert.errors import UserError
from ehr_bert.files import atomic_files
from ehr_bert.pickles import read_pickles
from ehr_bert.schemas import SpecialToken, is_context

VOCABULARY_TABLE = "vocabulary.tsv"
"""Name of the file that `Vocabulary.write` writes in the folders of all stages."""

TUTORIAL_PAD = "empty_pad"
"""What the tutorial's `.types` calls `[PAD]`."""


@dataclass(frozen=True)
class CodeCount:
    """How many patients have a code, and in how many visits of theirs it stands."""

    code: str
    patients: int
    occurrences: int


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id. `tokens[i]` has id `i`; `[PAD]` is 0; the special tokens are all there.

    Attributes:
        tokens: The tokens, `V` of them.
        patients: For each token the patients that have it, 0 for special tokens.
        occurrences: For each token the visits it stands in, 0 for special tokens.
    """

    tokens: tuple[str, ...]
    patients: tuple[int, ...]
    occurrences: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.tokens):
            twice = next(t for i, t in enumerate(self.tokens) if self.ids[t] != i)
            raise UserError(f"the vocabulary names {twice!r} twice: ids must be unique")
        missing = [token.value for token in SpecialToken if token not in self.ids]
        if missing or self.tokens[0] != SpecialToken.PAD:
            raise UserError(f"the vocabulary must begin with [PAD] and hold {', '.join(missing)}")

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def ids(self) -> dict[str, int]:
        """Token to id."""
        return {token: index for index, token in enumerate(self.tokens)}

    def id_of(self, token: SpecialToken) -> int:
        """The id of a special token."""
        return self.ids[token]

    @cached_property
    def code_ids(self) -> np.ndarray:
        """The ids of the codes, that is of all but special, context and unused tokens: int32, ascending."""
        others = {token.value for token in SpecialToken}
        codes = (
            index
            for index, token in enumerate(self.tokens)
            if token not in others and not token.startswith("[unused") and not is_context(token)
        )
        return np.fromiter(codes, dtype=np.int32)

    @cached_property
    def sha256(self) -> str:
        """A fingerprint of the tokens and their order, whatever their counts."""
        return hashlib.sha256("\n".join(self.tokens).encode()).hexdigest()

    @classmethod
    def from_counts(cls, counts: Iterable[CodeCount], given: "Vocabulary | None" = None) -> "Vocabulary":
        """Numbers codes by falling patient count, ties by the code itself.

        Args:
            counts: One entry a code, in any order.
            given: A vocabulary to keep: its ids stay, codes that it lacks are appended.
        """
        counted = {count.code: count for count in counts}
        start = given.tokens if given else tuple(token.value for token in SpecialToken)
        known = set(start)
        new = sorted(
            (count for count in counted.values() if count.code not in known),
            key=lambda count: (-count.patients, count.code),
        )
        tokens = start + tuple(count.code for count in new)
        found = [counted.get(token, CodeCount(token, 0, 0)) for token in tokens]
        return cls(
            tokens,
            tuple(count.patients for count in found),
            tuple(count.occurrences for count in found),
        )

    @classmethod
    def from_types(cls, types: Mapping[str, int]) -> "Vocabulary":
        """The vocabulary of a tutorial's `{code: id}`; ids that it leaves out become `[unused<id>]`.

        Special tokens that it lacks are appended.

        Raises:
            UserError: an id is negative, not an integer, or given twice; or id 0 isn't the padding's.
        """
        by_id: dict[int, str] = {}
        for token, index in types.items():
            if not isinstance(token, str) or type(index) is not int or index < 0:
                raise UserError(f"a types file maps codes to ids from 0 on, not {token!r} to {index!r}")
            if index in by_id:
                raise UserError(f"the types file gives id {index} to {by_id[index]!r} and {token!r}")
            by_id[index] = SpecialToken.PAD if token == TUTORIAL_PAD else token
        if by_id.get(0) != SpecialToken.PAD:
            raise UserError(f"id 0 of a types file is {TUTORIAL_PAD!r}, not {by_id.get(0)!r}")
        tokens = [by_id.get(index, f"[unused{index}]") for index in range(max(by_id) + 1)]
        tokens += [token.value for token in SpecialToken if token not in tokens]
        nothing = (0,) * len(tokens)
        return cls(tuple(str(token) for token in tokens), nothing, nothing)

    def to_types(self) -> dict[str, int]:
        """The tutorial's `{code: id}`."""
        return {(TUTORIAL_PAD if i == 0 else token): i for i, token in enumerate(self.tokens)}

    def write(self, path: Path) -> None:
        """Writes `vocabulary.tsv`: a line a token, `token<TAB>patients<TAB>occurrences`, no header."""
        rows = zip(self.tokens, self.patients, self.occurrences, strict=True)
        with atomic_files(path) as (temporary,):
            temporary.write_text("".join(f"{t}\t{p}\t{o}\n" for t, p, o in rows), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Vocabulary":
        """Reads a `vocabulary.tsv`, a tutorial's `.types` pickle, or a `vocab.txt` with a token a line.

        Special tokens that the latter two lack are appended.

        Raises:
            UserError: the file is missing, or is none of them.
        """
        types = read_types(path)
        if types is not None:
            return cls.from_types(types)
        try:
            rows = [line.split("\t") for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
            return cls(
                tuple(row[0] for row in rows),
                tuple(int(row[1]) for row in rows),
                tuple(int(row[2]) for row in rows),
            )
        except (ValueError, IndexError) as error:
            raise UserError(
                f"{path} is no vocabulary: each line is token<TAB>patients<TAB>occurrences"
            ) from error


def read_types(path: Path) -> dict[str, int] | None:
    """The `{token: id}` that a tutorial's `.types` pickle or a list of tokens holds, nothing appended.

    Args:
        path: The file; a list begins with `[PAD]`.

    Returns:
        None if the file is a `vocabulary.tsv`, or damaged.

    Raises:
        UserError: the file is missing, holds something else, or a list names a token twice.
    """
    try:
        with open(path, "rb") as file:
            is_text = file.read(len(SpecialToken.PAD)) == SpecialToken.PAD.encode()
    except OSError as error:
        raise UserError(f"vocabulary {path} can't be read: {error.strerror}") from error
    if not is_text:
        types = next(read_pickles(path))
        if not isinstance(types, dict):
            raise UserError(f"{path} holds a {type(types).__name__}, not a dict of codes to ids")
        return types
    tokens = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    if any("\t" in token for token in tokens):
        return None
    ids = {token: index for index, token in enumerate(tokens)}
    if len(ids) < len(tokens):
        twice = next(token for index, token in enumerate(tokens) if ids[token] != index)
        raise UserError(f"{path} names {twice!r} twice: ids must be unique")
    return ids
