"""The static shape of a batch: how many windows of each length, masked codes and patients it has room for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """Room in a batch, whose positions are one flat list: windows of the first length, then of the next.

    Attributes:
        windows: Pairs of a number of windows and their length, by ascending length.
        masked: Places for masked codes, M.
        patients: Places for patients, S.
        corpora: Corpora of a mixture, K, whose patients and tokens are counted apart; 0 where they aren't.
    """

    windows: tuple[tuple[int, int], ...]
    masked: int
    patients: int
    corpora: int = 0

    @property
    def positions(self) -> int:
        """Positions of all windows, N."""
        return sum(count * length for count, length in self.windows)
