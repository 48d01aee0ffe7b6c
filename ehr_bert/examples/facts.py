"""Facts: what a file of examples holds, counted while it is written."""

from dataclasses import dataclass, fields
from typing import ClassVar, Self


@dataclass(frozen=True)
class FileFacts:
    """What one TFRecord file of the tutorial's examples holds.

    Attributes:
        records: Examples.
        bytes: The file's size.
        real_tokens: Tokens of all examples, padding not counted.
        longest: Real tokens of the longest example.
    """

    records: int = 0
    bytes: int = 0
    real_tokens: int = 0
    longest: int = 0

    largest: ClassVar[frozenset[str]] = frozenset({"longest"})
    """The facts of which two files together have the larger one, and not the sum."""

    def __add__(self, other: Self) -> Self:
        pairs = {
            field.name: (getattr(self, field.name), getattr(other, field.name)) for field in fields(self)
        }
        return type(self)(
            **{name: max(pair) if name in self.largest else sum(pair) for name, pair in pairs.items()}
        )


@dataclass(frozen=True)
class PackedFacts(FileFacts):
    """What one TFRecord file of packed windows holds.

    `records` are windows, and `longest` is that of a patient.

    Attributes:
        window_length: Positions of each window.
        patients: Patients of all windows.
        codes: Tokens that may be masked, of all windows.
        most_patients: Patients of a window at most.
    """

    window_length: int = 0
    patients: int = 0
    codes: int = 0
    most_patients: int = 0

    largest: ClassVar[frozenset[str]] = frozenset({"longest", "window_length", "most_patients"})
