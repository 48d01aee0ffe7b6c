"""Windows: the pieces of a patient's history that fit into the model, each of whole visits where possible.

Legend: R patients, W windows, N tokens of all windows together.
"""

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ehr_bert.errors import UserError
from ehr_bert.ragged import spans, starts_of


class LongPatients(StrEnum):
    """What becomes of patients that have more codes than a window."""

    SPLIT = "split"
    LATEST = "latest"
    DROP = "drop"


@dataclass(frozen=True)
class Accounts:
    """What became of every patient: `patients` is the sum of `written` and the three reasons after it.

    Attributes:
        patients: Patients read.
        written: Patients in at least one example.
        without_codes: Left out: no code.
        too_long: Left out: more codes than a window.
        short_first_stay: Left out: the first stay is 0 days or less.
        split: Of those written, patients in several windows.
        truncated: Of those written, patients of whom only the latest codes are kept.
        examples: Examples, one a window.
        unknown: Tokens that the vocabulary asked for lacks, and that became `[UNK]`.
    """

    patients: int = 0
    written: int = 0
    without_codes: int = 0
    too_long: int = 0
    short_first_stay: int = 0
    split: int = 0
    truncated: int = 0
    examples: int = 0
    unknown: int = 0

    def __add__(self, other: Self) -> Self:
        return type(self)(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __str__(self) -> str:
        unknown = f"; {self.unknown:,} tokens became [UNK]" if self.unknown else ""
        return (
            f"{self.patients:,} patients: {self.written:,} written as {self.examples:,} examples "
            f"({self.split:,} split, {self.truncated:,} truncated); left out: {self.without_codes:,} without "
            f"codes, {self.too_long:,} too long, {self.short_first_stay:,} by a first stay of 0 days or less"
            f"{unknown}"
        )


@dataclass(frozen=True)
class Windows:
    """Windows of one batch of patients, in its order.

    Attributes:
        tokens: Token ids, int32 [N].
        visits: The visit of each token, from 1 in each window; 0 for `[CLS]`. int32 [N].
        lengths: Tokens a window, at least 1. int64 [W].
        longest_stays: The longest stay of the window's visits in days, int32 [W].
    """

    tokens: np.ndarray
    visits: np.ndarray
    lengths: np.ndarray
    longest_stays: np.ndarray

    def with_cls(self, cls_id: int) -> "Windows":
        """The same windows, each led by `[CLS]` as visit 0."""
        starts = starts_of(self.lengths)
        return Windows(
            np.insert(self.tokens, starts, cls_id),
            np.insert(self.visits, starts, 0),
            self.lengths + 1,
            self.longest_stays,
        )


def check_ids(tokens: np.ndarray, vocab_size: int) -> None:
    """Refuses tokens of another vocabulary.

    Raises:
        UserError: an id is outside of the vocabulary.
    """
    lowest, highest = tokens.min(initial=0), tokens.max(initial=0)
    if lowest < 0 or highest >= vocab_size:
        raise UserError(
            f"the sequences hold id {lowest if lowest < 0 else highest}, and the vocabulary has ids from "
            f"0 to {vocab_size - 1}: give the vocabulary that was made with these sequences"
        )


def cut(
    batch: pa.RecordBatch, capacity: int, long_patients: LongPatients, skip_short_first_stays: bool
) -> tuple[Windows, Accounts]:
    """Cuts patients into windows of at most `capacity` codes.

    Args:
        batch: The columns token_ids, visit_ids and los_days of `schemas.SEQUENCES`.
        capacity: Codes a window at most.
        long_patients: `SPLIT` fills windows with whole visits one after the other, `LATEST` keeps the last
            whole visits, `DROP` keeps nothing. A visit that is longer than a window is cut.
        skip_short_first_stays: Leave out patients whose first stay is 0 days or less.

    Raises:
        UserError: a code stands in a visit that has no stay.
    """
    tokens, counts = _flat(batch, "token_ids")  # [codes], [R]
    visits, _ = _flat(batch, "visit_ids")  # [codes]
    los_days, stay_counts = _flat(batch, "los_days")  # [stays], [R]
    if np.any((visits < 1) | (visits > np.repeat(stay_counts, counts))):
        raise UserError(
            "the sequences hold a visit id without a stay: visit ids are 1 to the number of stays"
        )
    first_codes, first_stays = starts_of(counts), starts_of(stay_counts)
    stays = los_days[np.repeat(first_stays, counts) + visits - 1]  # [codes]

    without_codes = counts == 0
    long = counts > capacity
    too_long = long & (long_patients == LongPatients.DROP)
    short_first_stay = np.zeros(len(counts), bool)
    if skip_short_first_stays:
        considered = ~without_codes & ~too_long
        short_first_stay[considered] = los_days[first_stays[considered]] <= 0
    written = ~(without_codes | too_long | short_first_stay)  # [R]

    starts, stops = first_codes[written], (first_codes + counts)[written]
    new_visit = np.r_[True, visits[1:] != visits[:-1]][: len(visits)]
    new_visit[first_codes[~without_codes]] = True
    borders = np.append(np.flatnonzero(new_visit), len(visits))  # [visits + 1]
    if long_patients == LongPatients.LATEST:
        starts = _latest(starts, stops, capacity, borders)
    else:
        starts, stops = _split(starts, stops, capacity, borders)

    lengths = stops - starts  # [W]
    codes = spans(starts, lengths)  # [N]
    windows = Windows(
        tokens[codes],
        visits[codes] - np.repeat(visits[starts] - 1, lengths),
        lengths,
        np.maximum.reduceat(stays[codes], starts_of(lengths)) if len(lengths) else stays[:0],
    )
    accounts = Accounts(
        patients=len(counts),
        written=int(written.sum()),
        without_codes=int(without_codes.sum()),
        too_long=int(too_long.sum()),
        short_first_stay=int(short_first_stay.sum()),
        split=int((long & written).sum()) if long_patients == LongPatients.SPLIT else 0,
        truncated=int((long & written).sum()) if long_patients == LongPatients.LATEST else 0,
        examples=len(lengths),
    )
    return windows, accounts


def _flat(batch: pa.RecordBatch, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A list column as its values, one row after the other, and the length of each row."""
    column = batch.column(name)
    lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False).astype(np.int64)
    return column.flatten().to_numpy(), lengths


def _split(
    starts: np.ndarray, stops: np.ndarray, capacity: int, borders: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Starts and stops of windows: each takes the visits that still fit, or else a part of one."""
    window_starts, window_stops = [starts[:0]], [stops[:0]]
    while len(starts):  # a round a window: the first of every patient, then the second, ...
        reach = starts + capacity
        border = borders[np.searchsorted(borders, reach, "right") - 1]
        ends = np.where(reach >= stops, stops, np.where(border > starts, border, reach))
        window_starts.append(starts)
        window_stops.append(ends)
        unfinished = ends < stops
        starts, stops = ends[unfinished], stops[unfinished]
    all_starts, all_stops = np.concatenate(window_starts), np.concatenate(window_stops)
    order = np.argsort(all_starts)
    return all_starts[order], all_stops[order]


def _latest(starts: np.ndarray, stops: np.ndarray, capacity: int, borders: np.ndarray) -> np.ndarray:
    """Where the last whole visits that fit begin, or else the last codes of the last visit."""
    reach = np.maximum(starts, stops - capacity)
    border = borders[np.searchsorted(borders, reach, "left")]
    return np.where(border < stops, border, reach)
