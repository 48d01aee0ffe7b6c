"""Packing of the histories of patients into windows of a few lengths, with almost no padding.

The algorithm is best-fit decreasing on the histogram of patient lengths. Patients of the same length are
interchangeable, and so are windows that contain patients of the same lengths. Starting with the longest
patients, those of one length are added to the windows with the fewest free positions that fit. If no window
fits, new windows of the shortest sufficient length are opened.

Source: Krell et al. 2021, "Efficient Sequence Packing without Cross-contamination".

Legend: N patients, W windows.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ehr_bert.ragged import starts_of

WINDOW_LENGTHS = (64, 128, 256, 512)
"""Default lengths. Attention costs grow with the length, and typical patients fill short windows well."""


def window_lengths(longest: int) -> tuple[int, ...]:
    """Return the default lengths below `longest`, followed by `longest`."""
    return (*(length for length in WINDOW_LENGTHS if length < longest), longest)


@dataclass(frozen=True)
class Packing:
    """The patients of each window. Windows are ordered by length, shortest first.

    Attributes:
        order: Indices of the patients, window by window, int64 `[N]`.
        patients: Number of patients per window, at least 1, int64 `[W]`.
        lengths: Number of positions per window, int64 `[W]`.
    """

    order: np.ndarray
    patients: np.ndarray
    lengths: np.ndarray


@dataclass(frozen=True)
class _Kind:
    """Windows that contain patients of the same lengths.

    Attributes:
        windows: Number of windows.
        length: Number of positions per window.
        patients: Number of patients per window.
        content: Pairs of a patient length and the number of such patients per window.
    """

    windows: int
    length: int
    patients: int
    content: tuple[tuple[int, int], ...]

    def split(self, windows: int) -> tuple["_Kind", "_Kind"]:
        """Divide into `windows` of the windows, and the others."""
        return replace(self, windows=windows), replace(self, windows=self.windows - windows)

    def with_patients(self, length: int, count: int) -> "_Kind":
        """Add `count` patients of the same length to each window."""
        return replace(self, patients=self.patients + count, content=(*self.content, (length, count)))


def pack(lengths: np.ndarray, capacities: Sequence[int], generator: np.random.Generator) -> Packing:
    """Pack patients into windows.

    Args:
        lengths: Number of positions of each patient, from 1 to the last of `capacities`, `[N]`.
        capacities: Lengths of windows, ascending.
        generator: Shuffles patients of the same length, and windows of the same length.
    """
    kinds = sorted(_kinds(np.bincount(lengths), capacities), key=lambda kind: kind.length)
    windows = np.array([kind.windows for kind in kinds], np.int64)  # [kinds]
    lengths_of_windows = np.repeat(np.array([kind.length for kind in kinds], np.int64), windows)  # [W]

    # One slot for each patient: the length of the patient, and the window of the slot.
    slot_lengths, slot_windows = [lengths[:0]], [np.zeros(0, np.int64)]
    for kind, first in zip(kinds, starts_of(windows), strict=True):
        for length, count in kind.content:
            slot_windows.append(np.repeat(np.arange(first, first + kind.windows), count))
            slot_lengths.append(np.full(len(slot_windows[-1]), length))
    by_length = np.argsort(np.concatenate(slot_lengths), kind="stable")
    window = np.empty(len(lengths), np.int64)  # [N]
    window[_shuffled_and_sorted(lengths, generator)] = np.concatenate(slot_windows)[by_length]

    rank = np.empty(len(lengths_of_windows), np.int64)  # [W]
    rank[_shuffled_and_sorted(lengths_of_windows, generator)] = np.arange(len(rank))
    window = rank[window]
    return Packing(
        np.argsort(window, kind="stable"), np.bincount(window, minlength=len(rank)), lengths_of_windows
    )


def _kinds(histogram: np.ndarray, capacities: Sequence[int]) -> list[_Kind]:
    """Return the windows for `histogram[length]` patients of each length."""
    lengths = np.flatnonzero(histogram)
    if not len(lengths):
        return []
    max_patients = _max_patients(np.average(lengths, weights=histogram[lengths]), capacities)
    open_kinds: dict[int, list[_Kind]] = defaultdict(list)  # by number of free positions
    full: list[_Kind] = []

    def keep(kind: _Kind, free: int) -> None:
        if free and kind.patients < max_patients[kind.length]:
            open_kinds[free].append(kind)
        else:
            full.append(kind)

    for length in lengths[::-1].tolist():
        unpacked = int(histogram[length])
        for free in range(length, capacities[-1]):
            while unpacked and open_kinds[free]:
                kind = open_kinds[free].pop()
                slots = min(free // length, max_patients[kind.length] - kind.patients)
                added = max(1, min(slots, unpacked // kind.windows))  # patients per window
                kind, others = kind.split(min(kind.windows, unpacked // added))
                if others.windows:
                    open_kinds[free].append(others)
                unpacked -= kind.windows * added
                keep(kind.with_patients(length, added), free - length * added)
        new_length = next(capacity for capacity in capacities if capacity >= length)
        slots = min(new_length // length, max_patients[new_length])
        full_windows, rest = divmod(unpacked, slots)
        for windows, patients in ((full_windows, slots), (1, rest)):
            if windows and patients:
                content = ((length, patients),)
                keep(_Kind(windows, new_length, patients, content), new_length - length * patients)
    return full + [kind for kinds in open_kinds.values() for kind in kinds]


def _max_patients(mean_length: float, capacities: Sequence[int]) -> dict[int, int]:
    """Return the largest number of patients per window, by its length.

    Each patient of a window has a masked code, and all windows of one length have the same number of
    masked-code slots, so a few windows full of short patients would make all others more expensive. About
    1 in 6 positions is masked in any case.
    """
    return {length: max(length // 6, math.ceil(2 * length / mean_length)) for length in capacities}


def _shuffled_and_sorted(values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return the indices that sort the values, with equal values in random order."""
    shuffled = generator.permutation(len(values))
    return shuffled[np.argsort(values[shuffled], kind="stable")]
