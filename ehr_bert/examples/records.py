"""Reading TFRecord files that may contain damaged records.

TensorFlow's reader stops at the first record whose data do not match their checksum. Files are therefore
checked once when they are opened. The check returns stretches of valid records, which are then read
separately, so that every later pass reads the same records.

Legend: B records of a batch, G figures per record.
"""

import logging
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from ehr_bert.errors import UserError
from ehr_bert.logs import progress_bar

logger = logging.getLogger(__name__)

RECORDS_AT_A_TIME = 4096

FRAMING = 16
"""Bytes of a record in addition to its data: their length (8), its checksum (4) and that of the data (4)."""

Stored = dict[str, tf.RaggedTensor]

Parse = Callable[[tf.Tensor], Stored]
"""Parses records, string `[B]`; raises `InvalidArgumentError` if one is not a `tf.train.Example`."""

RecordMeasure = Callable[[Stored], tuple[tf.Tensor, tf.Tensor]]
"""Returns whether each example is of the expected kind, bool `[B]`, and its figures, int64 `[B, G]`."""


@dataclass(frozen=True)
class Stretch:
    """Consecutive valid records of a file.

    Attributes:
        path: The file.
        offset: Position of the first record, in bytes.
        records: Number of records.
    """

    path: Path
    offset: int
    records: int


@dataclass(frozen=True)
class Checked:
    """Result of checking a file.

    Attributes:
        stretches: The valid records.
        corrupt: Number of other records.
        sums: Sum of each figure over the valid records, `[G]`; empty if there are none.
        largest: Maximum of each figure over the valid records, `[G]`; empty if there are none.
    """

    stretches: tuple[Stretch, ...]
    corrupt: int
    sums: list[int]
    largest: list[int]

    @property
    def records(self) -> int:
        """Number of valid records."""
        return sum(stretch.records for stretch in self.stretches)


def records_from(path: tf.Tensor, offset: tf.Tensor) -> tf.data.Dataset:
    """Return the records of a file from a byte offset, as scalar strings.

    Only for use inside the function of `flat_map` or `interleave`: TensorFlow does not serialise the
    offsets of this op, so it cannot be the source of a pipeline.
    """
    variant = tf.raw_ops.TFRecordDatasetV2(
        filenames=[path], compression_type="", buffer_size=1 << 20, byte_offsets=[offset]
    )
    return tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string))


def check(path: Path, parse: Parse, measure: RecordMeasure, most_corrupt: int) -> Checked:
    """Check all records of a file.

    Args:
        path: A TFRecord file.
        parse: Parses records.
        measure: Validates examples and returns their figures.
        most_corrupt: Maximum number of corrupt records to accept.

    Raises:
        UserError: The file is missing (key `missing-file`), truncated or not a TFRecord file
            (`damaged-file`), or contains more corrupt records (`too-many-corrupt-records`).
    """
    if not path.exists():
        raise UserError("missing-file", f"{path} does not exist. Run `ehr-bert features` again.")
    size = path.stat().st_size
    starts, valid = [np.zeros(0, np.int64)], [np.zeros(0, bool)]
    sums: list[np.ndarray] = []
    largest: list[np.ndarray] = []
    offset = corrupt = 0
    with progress_bar(
        logger, desc=f"checking {path.name}", unit="B", unit_scale=True, total=size, disable=None
    ) as progress:
        while offset < size:
            # An unreadable record ends the loop. It starts where the record before it ends.
            for records in _readable(path, offset).batch(RECORDS_AT_A_TIME):
                is_valid, figures = _measured(records, parse, measure)
                ends = offset + np.cumsum(tf.strings.length(records).numpy() + FRAMING, dtype=np.int64)
                starts.append(np.append(offset, ends[:-1]))
                valid.append(is_valid)
                sums += [piece.sum(axis=0) for piece in figures]
                largest += [piece.max(axis=0) for piece in figures]
                corrupt += int((~is_valid).sum())
                offset = int(ends[-1])
                progress.update(offset - progress.n)
            if offset < size:
                starts.append(np.array([offset]))
                valid.append(np.array([False]))
                corrupt += 1
                offset = _end_of_record(path, offset, size)
            if corrupt > most_corrupt:
                raise UserError(
                    "too-many-corrupt-records",
                    f"{path} contains at least {corrupt:,} records that are damaged or not of the expected "
                    f"kind of examples; at most {most_corrupt:,} are skipped. Run `ehr-bert features` again.",
                )
    return Checked(
        _stretches(path, np.concatenate(starts), np.concatenate(valid)),
        corrupt,
        np.sum(sums, axis=0).tolist() if sums else [],
        np.max(largest, axis=0).tolist() if largest else [],
    )


def _readable(path: Path, offset: int) -> tf.data.Dataset:
    """Return the records from a byte offset to the first one with a wrong checksum."""
    start = tf.data.Dataset.from_tensors((str(path), tf.constant(offset, tf.int64)))
    return start.flat_map(lambda *start: records_from(*start).ignore_errors())


def _measured(
    records: tf.Tensor, parse: Parse, measure: RecordMeasure
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return whether each record is valid, bool `[B]`, and the figures of the valid ones, `[..., G]`."""
    try:
        stored = parse(records)
    except (
        tf.errors.InvalidArgumentError,
        UnicodeDecodeError,
    ):  # The message of TensorFlow quotes the record.
        if len(records) == 1:
            return np.zeros(1, bool), []
        half = len(records) // 2
        (first, of_first), (second, of_second) = (
            _measured(part, parse, measure) for part in (records[:half], records[half:])
        )
        return np.concatenate([first, second]), of_first + of_second
    is_expected, figures = measure(stored)
    is_valid = is_expected.numpy()
    return is_valid, [figures.numpy()[is_valid]] if is_valid.any() else []


def _end_of_record(path: Path, offset: int, size: int) -> int:
    """Return the end of an unreadable record according to its length field.

    Raises:
        UserError: The record has no valid length field (key `damaged-file`).
    """
    with open(path, "rb") as file:
        file.seek(offset)
        header = file.read(8)
    length = struct.unpack("<Q", header)[0] if len(header) == 8 else 0
    end = offset + FRAMING + length
    if not length or end > size:
        raise UserError(
            "damaged-file",
            f"{path} is truncated, damaged or not a TFRecord file, from byte {offset:,} of {size:,}. Run "
            "`ehr-bert features` again.",
        )
    return end


def _stretches(path: Path, starts: np.ndarray, valid: np.ndarray) -> tuple[Stretch, ...]:
    """Return the runs of valid records, given the start and validity of each record of the file."""
    # Alternately the first record of a run, and the one after its last record.
    borders = np.flatnonzero(np.diff(valid, prepend=False, append=False))
    return tuple(
        Stretch(path, int(starts[first]), int(stop - first)) for first, stop in borders.reshape(-1, 2)
    )
