"""Counts of the content of a file of examples, computed while the file is written."""

from dataclasses import dataclass, fields
from typing import ClassVar, Self


@dataclass(frozen=True)
class FileFacts:
    """Counts of one TFRecord file of tutorial examples. Adding two of them gives those of both files.

    Attributes:
        records: Number of examples.
        bytes: Size of the file.
        real_tokens: Number of tokens of all examples, without padding.
        longest: Number of tokens of the longest example, without padding.
    """

    records: int = 0
    bytes: int = 0
    real_tokens: int = 0
    longest: int = 0

    largest: ClassVar[frozenset[str]] = frozenset({"longest"})
    """Names of the counts whose sum over two files is the larger of the two values."""

    def __add__(self, other: Self) -> Self:
        pairs = {
            field.name: (getattr(self, field.name), getattr(other, field.name)) for field in fields(self)
        }
        return type(self)(
            **{name: max(pair) if name in self.largest else sum(pair) for name, pair in pairs.items()}
        )


@dataclass(frozen=True)
class PackedFacts(FileFacts):
    """Counts of one TFRecord file of packed windows.

    `records` counts windows, and `longest` is the number of tokens of the longest history.

    Attributes:
        window_length: Number of positions of each window.
        patients: Number of patients in all windows.
        codes: Number of tokens in all windows that may be masked.
        most_patients: Largest number of patients in one window.
    """

    window_length: int = 0
    patients: int = 0
    codes: int = 0
    most_patients: int = 0

    largest: ClassVar[frozenset[str]] = frozenset({"longest", "window_length", "most_patients"})
