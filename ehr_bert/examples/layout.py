"""The static shape of a batch: numbers of windows, of slots for masked codes, and of slots for patients."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """Shape of a batch. Its positions are one flat list: windows of the first length, then of the next.

    Attributes:
        windows: Pairs (number of windows, length), by ascending length.
        masked: Number of slots for masked codes, M.
        patients: Number of slots for patients, S.
        corpora: Number of corpora whose patients and tokens are counted separately; 0 if they are not.
    """

    windows: tuple[tuple[int, int], ...]
    masked: int
    patients: int
    corpora: int = 0

    @property
    def positions(self) -> int:
        """Number of positions of all windows, P."""
        return sum(count * length for count, length in self.windows)
