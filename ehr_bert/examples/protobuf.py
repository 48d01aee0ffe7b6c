"""`tf.train.Example` messages of many examples at once, as bytes, without a Python object for each.

A message is a list of fields; a field of bytes is its tag, its length and the bytes. An example nests them:
Example{1: Features{1: map entry{1: name, 2: Feature{2: FloatList{1: floats} or 3: Int64List{1: varints}}}}}.
Rows are built as pieces, innermost first, and copied once into place.

Legend: R rows, that is examples; N values of all rows together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

import numpy as np

from ehr_bert.ragged import offsets_of, spans, starts_of


@dataclass(frozen=True)
class Column:
    """One feature of all rows, each row padded with zeros to the same width, or not padded.

    Attributes:
        values: Integers or float32, [N].
        lengths: Values of each row before its padding, int64 [R].
        width: Values of each row, padding counted; None without padding.
    """

    values: np.ndarray
    lengths: np.ndarray
    width: int | None = None


@dataclass(frozen=True)
class _Piece:
    """A byte string a row: `data` of all rows in turn, uint8; zero bytes fill a row up to its length."""

    data: np.ndarray
    filled: np.ndarray  # bytes of `data` a row, [R]
    lengths: np.ndarray  # [R]


def serialize(columns: Mapping[str, Column]) -> list[bytes]:
    """The serialized `tf.train.Example` of each row."""
    rows = len(next(iter(columns.values())).lengths)
    entries = (
        _field(
            b"\x0a",  # Features.feature = 1
            [
                _constant(b"\x0a%c%b" % (len(name), name.encode()), rows),  # its key = 1
                *_field(b"\x12", _feature(column)),  # its value = 2
            ],
        )
        for name, column in columns.items()
    )
    return _join(_field(b"\x0a", list(chain.from_iterable(entries))))  # Example.features = 1


def _feature(column: Column) -> list[_Piece]:
    padding = 0 * column.lengths if column.width is None else column.width - column.lengths  # [R]
    if column.values.dtype.kind == "f":
        data = column.values.astype("<f4").view(np.uint8)
        filled = 4 * column.lengths
        values = _Piece(data, filled, filled + 4 * padding)
        return _field(b"\x12", _field(b"\x0a", [values]))  # Feature.float_list = 2, its value = 1
    data, sizes = _varints(column.values)
    ends = offsets_of(sizes)
    starts = starts_of(column.lengths)
    filled = ends[starts + column.lengths] - ends[starts]
    values = _Piece(data, filled, filled + padding)  # the varint of 0 is one zero byte
    return _field(b"\x1a", _field(b"\x0a", [values]))  # Feature.int64_list = 3, its value = 1


def _field(tag: bytes, content: list[_Piece]) -> list[_Piece]:
    """A field that holds `content`: tag, length, content."""
    length = np.sum([piece.lengths for piece in content], axis=0)  # [R]
    data, sizes = _varints(length)
    return [_constant(tag, len(length)), _Piece(data, sizes, sizes), *content]


def _constant(data: bytes, rows: int) -> _Piece:
    lengths = np.full(rows, len(data))
    return _Piece(np.tile(np.frombuffer(data, np.uint8), rows), lengths, lengths)


def _varints(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Base-128 varints, least significant group first: their bytes in turn, and the bytes of each value."""
    bits = values.astype(np.int64).view(np.uint64)  # a negative number is its two's complement
    largest = int(bits.max(initial=0))
    groups = max(1, -(-largest.bit_length() // 7))
    if groups == 1:
        return values.astype(np.uint8), np.ones(len(values), np.int64)
    unsigned = bits.astype(np.uint32) if largest < 2**32 else bits
    data = np.empty((len(values), groups), np.uint8)
    sizes = np.ones(len(values), np.int64)
    for group in range(groups):
        shifted = unsigned >> np.array(7 * group, unsigned.dtype)
        more = shifted > 0x7F
        data[:, group] = (shifted & 0x7F).astype(np.uint8) | more.astype(np.uint8) << 7
        sizes += more
    return data[np.arange(groups) < sizes[:, None]], sizes


def _join(pieces: list[_Piece]) -> list[bytes]:
    """Each row's pieces one after the other."""
    lengths = np.sum([piece.lengths for piece in pieces], axis=0)  # [R]
    starts = starts_of(lengths)
    joined = np.zeros(lengths.sum(), np.uint8)
    at = starts.copy()
    for piece in pieces:
        joined[spans(at, piece.filled)] = piece.data
        at += piece.lengths
    whole = joined.tobytes()
    return [whole[start:stop] for start, stop in zip(starts.tolist(), at.tolist(), strict=True)]
