"""Rows of different lengths, stored as one flat array and the length of each row."""

import numpy as np


def starts_of(lengths: np.ndarray) -> np.ndarray:
    """Return the position in the flat array at which each row starts: int64 `[N]` from lengths `[N]`."""
    return np.cumsum(lengths, dtype=np.int64) - lengths


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """Return the position at which each row starts and, last, the total: int64 `[N + 1]` from lengths `[N]`.

    Example:
        >>> offsets_of(np.array([2, 0, 3])).tolist()
        [0, 2, 2, 5]
    """
    return np.append(0, np.cumsum(lengths, dtype=np.int64))


def spans(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the flat positions `starts[n], ..., starts[n] + lengths[n] - 1` of every row n.

    Args:
        starts: Position of each row's first value, int64 `[N]`.
        lengths: Values of each row, int64 `[N]`.

    Returns:
        The positions of all rows, one row after the other: int64 `[sum(lengths)]`.
    """
    return np.repeat(starts - starts_of(lengths), lengths) + np.arange(lengths.sum())
