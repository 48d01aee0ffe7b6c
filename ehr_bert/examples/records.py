"""TFRecord files, of which some records may be damaged.

TensorFlow's reader ends at the first record whose data don't match their checksum. So files are read through
once when they are opened: what is sound is known from then on as stretches, which are read by themselves, and
every later pass sees the same records.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from ehr_bert.errors import UserError

RECORDS_AT_A_TIME = 4096

FRAMING = 16
"""Bytes of a record beside its data: their length (8), a checksum of it (4), and one of the data (4)."""

Stored = dict[str, tf.RaggedTensor]

Parse = Callable[[tf.Tensor], Stored]
"""The features of records, string [B]; an `InvalidArgumentError` if one is no `tf.train.Example` at all."""

RecordMeasure = Callable[[Stored], tuple[tf.Tensor, tf.Tensor]]
"""Whether each example is of the right kind, bool [B], and its figures, int64 [B, F]."""


@dataclass(frozen=True)
class Stretch:
    """Sound records that stand one after the other in a file.

    Attributes:
        path: The file.
        offset: Where they begin, in bytes.
        records: How many there are.
    """

    path: Path
    offset: int
    records: int


@dataclass(frozen=True)
class Checked:
    """What was found in a file.

    Attributes:
        stretches: Its sound records.
        corrupt: How many others there are.
        sums: The figures of the sound records, added up, [F]; empty if there are none.
        largest: The largest of each figure, [F]; likewise.
    """

    stretches: tuple[Stretch, ...]
    corrupt: int
    sums: list[int]
    largest: list[int]

    @property
    def records(self) -> int:
        """How many are sound."""
        return sum(stretch.records for stretch in self.stretches)


def records_from(path: tf.Tensor, offset: tf.Tensor) -> tf.data.Dataset:
    """The records of a file from that byte on, scalar strings.

    For the function of a `flat_map` or `interleave` alone: TensorFlow can't write this op into the graph of a
    whole pipeline, since it forgets the offsets.
    """
    variant = tf.raw_ops.TFRecordDatasetV2(
        filenames=[path], compression_type="", buffer_size=1 << 20, byte_offsets=[offset]
    )
    return tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string))


def check(path: Path, parse: Parse, measure: RecordMeasure, most_corrupt: int) -> Checked:
    """Reads a file through.

    Args:
        path: A TFRecord file.
        parse: Reads the features of records.
        measure: Judges examples, and says what they hold.
        most_corrupt: Records that may be corrupt.

    Raises:
        UserError: the file is missing or cut off, holds no TFRecords, or has more corrupt ones.
    """
    if not path.exists():
        raise UserError(f"{path} is missing: make it again")
    size = path.stat().st_size
    starts, verdicts = [np.zeros(0, np.int64)], [np.zeros(0, bool)]
    sums: list[np.ndarray] = []
    largest: list[np.ndarray] = []
    offset = corrupt = 0
    with tqdm(desc=f"checking {path.name}", unit="B", unit_scale=True, total=size, disable=None) as progress:
        while offset < size:
            # A record that can't be read ends the loop; where it begins follows from those before it.
            for records in _readable(path, offset).batch(RECORDS_AT_A_TIME):
                sound, figures = _measured(records, parse, measure)
                ends = offset + np.cumsum(tf.strings.length(records).numpy() + FRAMING, dtype=np.int64)
                starts.append(np.append(offset, ends[:-1]))
                verdicts.append(sound)
                sums += [piece.sum(axis=0) for piece in figures]
                largest += [piece.max(axis=0) for piece in figures]
                corrupt += int((~sound).sum())
                offset = int(ends[-1])
                progress.update(offset - progress.n)
            if offset < size:
                starts.append(np.array([offset]))
                verdicts.append(np.array([False]))
                corrupt += 1
                offset = _end_of_record(path, offset, size)
            if corrupt > most_corrupt:
                raise UserError(
                    f"{path} has {corrupt:,} or more records that are damaged or no examples of the kind "
                    f"that is told, and at most {most_corrupt:,} are left out: make it again"
                )
    return Checked(
        _stretches(path, np.concatenate(starts), np.concatenate(verdicts)),
        corrupt,
        np.sum(sums, axis=0).tolist() if sums else [],
        np.max(largest, axis=0).tolist() if largest else [],
    )


def _readable(path: Path, offset: int) -> tf.data.Dataset:
    """The records from that byte on, up to the first whose checksums don't match."""
    begin = tf.data.Dataset.from_tensors((str(path), tf.constant(offset, tf.int64)))
    return begin.flat_map(lambda *begin: records_from(*begin).ignore_errors())


def _measured(
    records: tf.Tensor, parse: Parse, measure: RecordMeasure
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Whether each record is sound, bool [B]; the figures of those that are, in pieces of [some, F]."""
    try:
        stored = parse(records)
    except (tf.errors.InvalidArgumentError, UnicodeDecodeError):  # TensorFlow's message quotes the record
        if len(records) == 1:
            return np.zeros(1, bool), []
        half = len(records) // 2
        (first, of_first), (second, of_second) = (
            _measured(part, parse, measure) for part in (records[:half], records[half:])
        )
        return np.concatenate([first, second]), of_first + of_second
    verdicts, figures = measure(stored)
    sound = verdicts.numpy()
    return sound, [figures.numpy()[sound]] if sound.any() else []


def _end_of_record(path: Path, offset: int, size: int) -> int:
    """Where a record that can't be read ends, by the length that it tells."""
    with open(path, "rb") as file:
        file.seek(offset)
        told = file.read(8)
    length = struct.unpack("<Q", told)[0] if len(told) == 8 else 0
    end = offset + FRAMING + length
    if not length or end > size:
        raise UserError(
            f"{path} is cut off, damaged or no TFRecord file of examples from byte {offset:,} of {size:,} "
            "on: make it again"
        )
    return end


def _stretches(path: Path, starts: np.ndarray, sound: np.ndarray) -> tuple[Stretch, ...]:
    """The runs of sound records; `starts` and `sound` tell of all records of the file."""
    # By turns where a run begins, and where the record after its last one does.
    borders = np.flatnonzero(np.diff(sound, prepend=False, append=False))
    return tuple(
        Stretch(path, int(starts[first]), int(stop - first)) for first, stop in borders.reshape(-1, 2)
    )
