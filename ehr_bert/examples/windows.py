"""Windows: parts of a patient's history that fit into the model and consist of whole visits where possible.

Legend: N patients, C codes of all patients, K visits of all patients, W windows, P positions of all windows,
concatenated.
"""

from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ehr_bert.errors import UserError
from ehr_bert.ragged import spans, starts_of

CUT_COLUMNS = ("token_ids", "visit_ids", "los_days")
"""The columns of `schemas.SEQUENCES` that `cut` uses."""


class LongPatients(StrEnum):
    """How patients with more codes than a window are handled."""

    SPLIT = "split"
    LATEST = "latest"
    DROP = "drop"


@dataclass(frozen=True)
class Accounts:
    """Number of patients by how they were handled.

    `patients` is the sum of `written`, `without_codes`, `too_long` and `short_first_stay`.

    Attributes:
        patients: Patients that were read.
        written: Patients with at least one example.
        without_codes: Patients excluded because they have no code.
        too_long: Patients excluded because they have more codes than a window.
        short_first_stay: Patients excluded because their first stay is 0 days or less.
        split: Written patients that are divided into several windows.
        truncated: Written patients of which only the latest codes are kept.
        examples: Number of examples, one per window.
        unknown: Number of tokens that became `[UNK]` because the requested vocabulary does not contain them.
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
            f"({self.split:,} split, {self.truncated:,} truncated); excluded: {self.without_codes:,} without "
            f"codes, {self.too_long:,} too long, {self.short_first_stay:,} with a first stay of 0 days or "
            f"less{unknown}"
        )


@dataclass(frozen=True)
class Windows:
    """Windows of one batch of patients, in the order of the patients.

    Attributes:
        tokens: Token ids, int32 `[P]`.
        visits: Visit of each token, from 1 in each window; 0 for `[CLS]`; int32 `[P]`.
        lengths: Number of tokens per window, at least 1, int64 `[W]`.
        longest_stays: Longest stay of the visits of each window in days, int32 `[W]`.
        last_visits: Last visit of each window, as its position among the K visits of the batch, int64 `[W]`.
    """

    tokens: np.ndarray
    visits: np.ndarray
    lengths: np.ndarray
    longest_stays: np.ndarray
    last_visits: np.ndarray

    def with_cls(self, cls_id: int) -> "Windows":
        """Return the windows with `[CLS]` as the first token of each, in visit 0."""
        starts = starts_of(self.lengths)
        return replace(
            self,
            tokens=np.insert(self.tokens, starts, cls_id),
            visits=np.insert(self.visits, starts, 0),
            lengths=self.lengths + 1,
        )


def check_ids(tokens: np.ndarray, vocab_size: int) -> None:
    """Refuse token ids that are not in the vocabulary.

    Raises:
        UserError: An id is not from 0 to `vocab_size` - 1 (key `ids-out-of-range`).
    """
    lowest, highest = tokens.min(initial=0), tokens.max(initial=0)
    if lowest < 0 or highest >= vocab_size:
        raise UserError(
            "ids-out-of-range",
            f"the sequences contain the id {lowest if lowest < 0 else highest}, but the vocabulary has the "
            f"ids 0 to {vocab_size - 1}. Use the vocabulary that was made with these sequences.",
        )


def cut(
    batch: pa.RecordBatch, capacity: int, long_patients: LongPatients, skip_short_first_stays: bool
) -> tuple[Windows, Accounts]:
    """Divide patients into windows of at most `capacity` codes.

    Args:
        batch: Patients with the columns `CUT_COLUMNS`.
        capacity: Maximum number of codes per window.
        long_patients: `SPLIT` fills successive windows with whole visits, `LATEST` keeps the latest whole
            visits, `DROP` excludes the patient. A visit with more codes than a window is divided.
        skip_short_first_stays: Exclude patients whose first stay is 0 days or less.

    Returns:
        The windows, and the number of patients by how they were handled.

    Raises:
        UserError: A visit id is not from 1 to the number of stays (key `invalid-visit-id`).
    """
    tokens, counts = _flat(batch, "token_ids")  # [C], [N]
    visits, _ = _flat(batch, "visit_ids")  # [C]
    los_days, stay_counts = _flat(batch, "los_days")  # [K], [N]
    if np.any((visits < 1) | (visits > np.repeat(stay_counts, counts))):
        raise UserError(
            "invalid-visit-id",
            "the sequences contain a visit id without a stay. Visit ids must be from 1 to the number of "
            "stays.",
        )
    first_codes, first_stays = starts_of(counts), starts_of(stay_counts)
    visit_places = np.repeat(first_stays, counts) + visits - 1  # [C], among the K visits
    stays = los_days[visit_places]  # [C]

    without_codes = counts == 0
    long = counts > capacity
    too_long = long & (long_patients == LongPatients.DROP)
    short_first_stay = np.zeros(len(counts), bool)
    if skip_short_first_stays:
        considered = ~without_codes & ~too_long
        short_first_stay[considered] = los_days[first_stays[considered]] <= 0
    written = ~(without_codes | too_long | short_first_stay)  # [N]

    starts, stops = first_codes[written], (first_codes + counts)[written]
    new_visit = np.r_[True, visits[1:] != visits[:-1]][: len(visits)]
    new_visit[first_codes[~without_codes]] = True
    borders = np.append(np.flatnonzero(new_visit), len(visits))  # [visits with codes + 1]
    if long_patients == LongPatients.LATEST:
        starts = _latest(starts, stops, capacity, borders)
    else:
        starts, stops = _split(starts, stops, capacity, borders)

    lengths = stops - starts  # [W]
    codes = spans(starts, lengths)  # [P]
    windows = Windows(
        tokens[codes],
        visits[codes] - np.repeat(visits[starts] - 1, lengths),
        lengths,
        np.maximum.reduceat(stays[codes], starts_of(lengths)) if len(lengths) else stays[:0],
        visit_places[stops - 1],
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
    """Return the values of a list column, concatenated, and the length of each list."""
    column = batch.column(name)
    lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False).astype(np.int64)
    return column.flatten().to_numpy(), lengths


def _split(
    starts: np.ndarray, stops: np.ndarray, capacity: int, borders: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the starts and stops of windows, each with the whole visits that fit or a part of one visit."""
    window_starts, window_stops = [starts[:0]], [stops[:0]]
    while len(starts):  # The first window of every patient, then the second, ...
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
    """Return the start of the latest whole visits that fit, or of the latest codes of the last visit."""
    reach = np.maximum(starts, stops - capacity)
    border = borders[np.searchsorted(borders, reach, "left")]
    return np.where(border < stops, border, reach)
