"""The vocabulary: the id of each token, and its counts."""

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
"""Name of `[PAD]` in the tutorial's `.types` file."""


@dataclass(frozen=True)
class CodeCount:
    """Number of patients and visits with a code.

    Attributes:
        code: The code.
        patients: Number of patients with the code.
        occurrences: Number of visits in which it occurs.
    """

    code: str
    patients: int
    occurrences: int


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id. `tokens[i]` has id `i`, `[PAD]` has id 0, and all special tokens are included.

    Attributes:
        tokens: The tokens, `[V]`.
        patients: Number of patients with each token, 0 for special tokens, `[V]`.
        occurrences: Number of visits in which each token occurs, 0 for special tokens, `[V]`.

    Raises:
        UserError: A token is repeated (key `duplicate-token`), or special tokens are missing or `[PAD]` is
            not first (`missing-special-token`).

    Example:
        >>> vocabulary = Vocabulary.from_counts(
        ...     [CodeCount("ICD10_I10", 3, 4), CodeCount("ICD10_E66.9", 5, 5)]
        ... )
        >>> vocabulary.tokens[5:]
        ('ICD10_E66.9', 'ICD10_I10')
        >>> vocabulary.ids["ICD10_I10"]
        6
    """

    tokens: tuple[str, ...]
    patients: tuple[int, ...]
    occurrences: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.tokens):
            repeated = next(token for index, token in enumerate(self.tokens) if self.ids[token] != index)
            raise _duplicate_token("the vocabulary", repeated)
        missing = [token.value for token in SpecialToken if token not in self.ids]
        if missing or self.tokens[0] != SpecialToken.PAD:
            raise UserError(
                "missing-special-token",
                f"the vocabulary must start with [PAD] and contain {', '.join(SpecialToken)}. It starts with "
                f"{next(iter(self.tokens), None)!r}; missing: {', '.join(missing) or 'none'}.",
            )

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def ids(self) -> dict[str, int]:
        """The id of each token."""
        return {token: index for index, token in enumerate(self.tokens)}

    def id_of(self, token: SpecialToken) -> int:
        """Return the id of a special token."""
        return self.ids[token]

    @cached_property
    def code_ids(self) -> np.ndarray:
        """Ids of the codes, that is all tokens but special, context and unused ones: int32, ascending."""
        others = {token.value for token in SpecialToken}
        codes = (
            index
            for index, token in enumerate(self.tokens)
            if token not in others and not token.startswith("[unused") and not is_context(token)
        )
        return np.fromiter(codes, dtype=np.int32)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the tokens in their order, without the counts."""
        return hashlib.sha256("\n".join(self.tokens).encode()).hexdigest()

    @classmethod
    def from_counts(cls, counts: Iterable[CodeCount], given: "Vocabulary | None" = None) -> "Vocabulary":
        """Number codes by decreasing patient count; equal counts are ordered by code.

        Args:
            counts: One entry per code, in any order.
            given: A vocabulary to extend. Its ids do not change, and new codes are appended.
        """
        counted = {count.code: count for count in counts}
        start = given.tokens if given else tuple(token.value for token in SpecialToken)
        known = set(start)
        new = sorted(
            (count for count in counted.values() if count.code not in known),
            key=lambda count: (-count.patients, count.code),
        )
        tokens = start + tuple(count.code for count in new)
        token_counts = [counted.get(token, CodeCount(token, 0, 0)) for token in tokens]
        return cls(
            tokens,
            tuple(count.patients for count in token_counts),
            tuple(count.occurrences for count in token_counts),
        )

    @classmethod
    def from_types(cls, types: Mapping[str, int]) -> "Vocabulary":
        """Create a vocabulary from `{code: id}` of a tutorial's `.types` file.

        Unassigned ids become `[unused<id>]`. Missing special tokens are appended.

        Raises:
            UserError: An id is negative, not an integer or repeated, or id 0 is not the padding (key
                `invalid-types-file`).
        """
        by_id: dict[int, str] = {}
        for token, index in types.items():
            if not isinstance(token, str) or type(index) is not int or index < 0:
                raise UserError(
                    "invalid-types-file",
                    f"the .types file maps {token!r} to {index!r}. It must map codes to integers from 0.",
                )
            if index in by_id:
                raise UserError(
                    "invalid-types-file",
                    f"the .types file maps both {by_id[index]!r} and {token!r} to {index}. "
                    "Ids must be unique.",
                )
            by_id[index] = SpecialToken.PAD if token == TUTORIAL_PAD else token
        if by_id.get(0) != SpecialToken.PAD:
            raise UserError(
                "invalid-types-file",
                f"id 0 of the .types file is {by_id.get(0)!r} instead of {TUTORIAL_PAD!r}. Number the "
                "codes from 1.",
            )
        tokens = [by_id.get(index, f"[unused{index}]") for index in range(max(by_id) + 1)]
        tokens += [token.value for token in SpecialToken if token not in tokens]
        zeros = (0,) * len(tokens)
        return cls(tuple(str(token) for token in tokens), zeros, zeros)

    def to_types(self) -> dict[str, int]:
        """Return `{code: id}` as the tutorial's `.types` file contains it."""
        return {(TUTORIAL_PAD if index == 0 else token): index for index, token in enumerate(self.tokens)}

    def write(self, path: Path) -> None:
        """Write a TSV without header, one line per token: `token<TAB>patients<TAB>occurrences`."""
        rows = zip(self.tokens, self.patients, self.occurrences, strict=True)
        with atomic_files(path) as (temporary,):
            temporary.write_text("".join(f"{t}\t{p}\t{o}\n" for t, p, o in rows), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Vocabulary":
        """Read a `vocabulary.tsv`, a tutorial's `.types` pickle, or a `vocab.txt` with one token per line.

        Special tokens that are missing in a `.types` or `vocab.txt` file are appended.

        Raises:
            UserError: The file cannot be read (key `unreadable-file`) or has another format
                (`invalid-vocabulary`).
        """
        types = read_types(path)
        try:
            if types is not None:
                return cls.from_types(types)
            rows = [line.split("\t") for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
            return cls(
                tuple(row[0] for row in rows),
                tuple(int(row[1]) for row in rows),
                tuple(int(row[2]) for row in rows),
            )
        except UserError as error:
            raise error.prefixed(f"{path}: ") from error
        except (ValueError, IndexError) as error:
            raise UserError(
                "invalid-vocabulary",
                f"{path} is not a vocabulary. Each line must be token<TAB>patients<TAB>occurrences.",
            ) from error


def read_types(path: Path) -> dict[str, int] | None:
    """Return `{token: id}` of a tutorial's `.types` pickle or a list of tokens, without appending any.

    Args:
        path: The file. A list of tokens starts with `[PAD]`.

    Returns:
        The ids, or None if the file is a `vocabulary.tsv` or damaged.

    Raises:
        UserError: The file cannot be read (key `unreadable-file`), has another format
            (`invalid-types-file`), or repeats a token (`duplicate-token`).
    """
    try:
        with open(path, "rb") as file:
            is_text = file.read(len(SpecialToken.PAD)) == SpecialToken.PAD.encode()
    except OSError as error:
        raise UserError(
            "unreadable-file",
            f"vocabulary {path} cannot be read: {error.strerror}. Check the path; `ehr-bert preprocess` "
            "writes this file.",
        ) from error
    if not is_text:
        types = next(read_pickles(path))
        if not isinstance(types, dict):
            raise UserError(
                "invalid-types-file",
                f"{path} contains a {type(types).__name__} instead of a dict from codes to ids. Choose a "
                "vocabulary or a .types file.",
            )
        return types
    tokens = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    if any("\t" in token for token in tokens):
        return None
    ids = {token: index for index, token in enumerate(tokens)}
    if len(ids) < len(tokens):
        repeated = next(token for index, token in enumerate(tokens) if ids[token] != index)
        raise _duplicate_token(str(path), repeated)
    return ids


def _duplicate_token(where: str, token: str) -> UserError:
    return UserError("duplicate-token", f"{where} contains {token!r} twice. Each token must occur once.")
