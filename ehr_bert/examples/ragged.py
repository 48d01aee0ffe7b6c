"""Rows of different lengths, kept as one flat array and the length of each row."""

import numpy as np


def starts_of(lengths: np.ndarray) -> np.ndarray:
    """Where each row begins in the flat array: int64 [R] of lengths [R]."""
    return np.cumsum(lengths, dtype=np.int64) - lengths


def spans(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The flat places `starts[r], ..., starts[r] + lengths[r] - 1` of every row r: int64 [sum(lengths)]."""
    return np.repeat(starts - starts_of(lengths), lengths) + np.arange(lengths.sum())
