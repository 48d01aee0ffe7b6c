"""Serialisation of many `tf.train.Example` messages at once, without one Python object per message.

A protobuf message is a list of fields; a field of bytes consists of its tag, its length and the bytes. An
example nests messages:
Example{1: Features{1: map entry{1: name, 2: Feature{2: FloatList{1: floats} or 3: Int64List{1: varints}}}}}.
Messages are built from pieces, innermost first, which are copied once into the result.

Legend: N examples, P values of all examples, concatenated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

import numpy as np

from ehr_bert.ragged import offsets_of, spans, starts_of


@dataclass(frozen=True)
class Column:
    """One feature of all examples, optionally padded with zeros to a common width.

    Attributes:
        values: Integers or float32 of all examples, `[P]`.
        lengths: Number of values per example, without padding, int64 `[N]`.
        width: Number of values per example including padding, or None for no padding.
    """

    values: np.ndarray
    lengths: np.ndarray
    width: int | None = None


@dataclass(frozen=True)
class _Piece:
    """One byte string per example, filled with zero bytes up to its length.

    Attributes:
        data: Bytes of all examples, concatenated, uint8.
        filled: Number of bytes of `data` per example, `[N]`.
        lengths: Number of bytes per example, `[N]`.
    """

    data: np.ndarray
    filled: np.ndarray
    lengths: np.ndarray


def serialize(columns: Mapping[str, Column]) -> list[bytes]:
    """Return the serialised `tf.train.Example` of each example."""
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
    padding = 0 * column.lengths if column.width is None else column.width - column.lengths  # [N]
    if column.values.dtype.kind == "f":
        data = column.values.astype("<f4").view(np.uint8)
        filled = 4 * column.lengths
        values = _Piece(data, filled, filled + 4 * padding)
        return _field(b"\x12", _field(b"\x0a", [values]))  # Feature.float_list = 2, its value = 1
    data, sizes = _varints(column.values)
    ends = offsets_of(sizes)
    starts = starts_of(column.lengths)
    filled = ends[starts + column.lengths] - ends[starts]
    values = _Piece(data, filled, filled + padding)  # The varint of 0 is one zero byte.
    return _field(b"\x1a", _field(b"\x0a", [values]))  # Feature.int64_list = 3, its value = 1


def _field(tag: bytes, content: list[_Piece]) -> list[_Piece]:
    """Return a field with this content: tag, length, content."""
    length = np.sum([piece.lengths for piece in content], axis=0)  # [N]
    data, sizes = _varints(length)
    return [_constant(tag, len(length)), _Piece(data, sizes, sizes), *content]


def _constant(data: bytes, rows: int) -> _Piece:
    lengths = np.full(rows, len(data))
    return _Piece(np.tile(np.frombuffer(data, np.uint8), rows), lengths, lengths)


def _varints(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the bytes of all values as base-128 varints, and the number of bytes of each value.

    The least significant group of 7 bits comes first.
    """
    bits = values.astype(np.int64).view(np.uint64)  # Negative numbers are stored as two's complement.
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
    """Concatenate the pieces of each example."""
    lengths = np.sum([piece.lengths for piece in pieces], axis=0)  # [N]
    starts = starts_of(lengths)
    joined = np.zeros(lengths.sum(), np.uint8)
    ends = starts.copy()
    for piece in pieces:
        joined[spans(ends, piece.filled)] = piece.data
        ends += piece.lengths
    content = joined.tobytes()
    return [content[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
