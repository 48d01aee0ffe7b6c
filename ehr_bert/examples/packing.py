"""Packing: whole patients put into windows of a few lengths, so that next to no position is padding.

Patients of one length are alike to it, and so are windows that hold patients of the same lengths: it works on
the histogram of lengths (Krell et al. 2021, "Efficient Sequence Packing without Cross-contamination"), from
the longest patients on. Those of one length go where they leave the least room; where none is left, they open
windows of the shortest length that takes them.

Legend: R patients, W windows.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ehr_bert.ragged import starts_of

WINDOW_LENGTHS = (64, 128, 256, 512)
"""Lengths by default. Attention grows with the window, and the usual patients fill even the shortest well."""


def window_lengths(longest: int) -> tuple[int, ...]:
    """The default lengths up to the longest that is wanted, with that as the last."""
    return (*(length for length in WINDOW_LENGTHS if length < longest), longest)


@dataclass(frozen=True)
class Packing:
    """Which patients each window holds. Windows of one length stand together, the shortest first.

    Attributes:
        order: The patients, window by window, int64 [R].
        patients: Patients a window, at least 1, int64 [W].
        lengths: Positions of each window, int64 [W].
    """

    order: np.ndarray
    patients: np.ndarray
    lengths: np.ndarray


@dataclass(frozen=True)
class _Kind:
    """Windows that hold patients of the same lengths.

    Attributes:
        windows: How many there are.
        length: Positions of each.
        patients: Patients in each.
        content: Pairs of a patient's length and how many of it are in each.
    """

    windows: int
    length: int
    patients: int
    content: tuple[tuple[int, int], ...]

    def split(self, windows: int) -> tuple["_Kind", "_Kind"]:
        """So many of the windows, and the others."""
        return replace(self, windows=windows), replace(self, windows=self.windows - windows)

    def with_patients(self, length: int, count: int) -> "_Kind":
        """The same windows with `count` more patients in each."""
        return replace(self, patients=self.patients + count, content=(*self.content, (length, count)))


def pack(lengths: np.ndarray, capacities: Sequence[int], generator: np.random.Generator) -> Packing:
    """Packs patients into windows.

    Args:
        lengths: Positions of each patient, at least 1 and at most the last of `capacities`, [R].
        capacities: Lengths that windows may have, ascending.
        generator: Of the order of patients of one length, and of that of windows of one length.
    """
    kinds = sorted(_kinds(np.bincount(lengths), capacities), key=lambda kind: kind.length)
    windows = np.array([kind.windows for kind in kinds], np.int64)  # [kinds]
    lengths_of_windows = np.repeat(np.array([kind.length for kind in kinds], np.int64), windows)  # [W]

    # A place for every patient: the length that it is for, and its window.
    place_lengths, places = [lengths[:0]], [np.zeros(0, np.int64)]
    for kind, first in zip(kinds, starts_of(windows), strict=True):
        for length, count in kind.content:
            places.append(np.repeat(np.arange(first, first + kind.windows), count))
            place_lengths.append(np.full(len(places[-1]), length))
    by_length = np.argsort(np.concatenate(place_lengths), kind="stable")
    window = np.empty(len(lengths), np.int64)  # [R]
    window[_shuffled_and_sorted(lengths, generator)] = np.concatenate(places)[by_length]

    rank = np.empty(len(lengths_of_windows), np.int64)  # [W]
    rank[_shuffled_and_sorted(lengths_of_windows, generator)] = np.arange(len(rank))
    window = rank[window]
    return Packing(
        np.argsort(window, kind="stable"), np.bincount(window, minlength=len(rank)), lengths_of_windows
    )


def _kinds(histogram: np.ndarray, capacities: Sequence[int]) -> list[_Kind]:
    """The windows for patients of whom `histogram[length]` have that length."""
    lengths = np.flatnonzero(histogram)
    if not len(lengths):
        return []
    most = _most_patients(np.average(lengths, weights=histogram[lengths]), capacities)
    open_kinds: dict[int, list[_Kind]] = defaultdict(list)  # by the positions that are left
    full: list[_Kind] = []

    def keep(kind: _Kind, left: int) -> None:
        if left and kind.patients < most[kind.length]:
            open_kinds[left].append(kind)
        else:
            full.append(kind)

    for length in lengths[::-1].tolist():
        unpacked = int(histogram[length])
        for left in range(length, capacities[-1]):
            while unpacked and open_kinds[left]:
                kind = open_kinds[left].pop()
                room = min(left // length, most[kind.length] - kind.patients)
                each = max(1, min(room, unpacked // kind.windows))
                kind, others = kind.split(min(kind.windows, unpacked // each))
                if others.windows:
                    open_kinds[left].append(others)
                unpacked -= kind.windows * each
                keep(kind.with_patients(length, each), left - length * each)
        new_length = next(each for each in capacities if each >= length)
        most_each = min(new_length // length, most[new_length])
        windows, rest = divmod(unpacked, most_each)
        for count, each in ((windows, most_each), (1, rest)):
            if count and each:
                keep(_Kind(count, new_length, each, ((length, each),)), new_length - length * each)
    return full + [kind for kinds in open_kinds.values() for kind in kinds]


def _most_patients(mean_length: float, capacities: Sequence[int]) -> dict[int, int]:
    """Patients a window at most, by its length.

    Each patient of a window has a masked code, and all windows of a length room for as many: a few that are
    full of the shortest patients would cost all. 1 in 6 positions is about what is masked anyway.
    """
    return {length: max(length // 6, math.ceil(2 * length / mean_length)) for length in capacities}


def _shuffled_and_sorted(values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """An order in which the values ascend; among equal ones it is random."""
    shuffled = generator.permutation(len(values))
    return shuffled[np.argsort(values[shuffled], kind="stable")]
