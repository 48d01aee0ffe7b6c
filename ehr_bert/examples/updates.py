"""Updates: windows in the order of training, dealt out to devices as flat batches.

An update takes a portion of each corpus, and of it windows of each length in proportion to how many there
are: an epoch of a corpus ends in all lengths at once. The windows are decoded and masked together and then
dealt out to cells, one for each micro-batch of each replica. All follows from the seed and the number of the
update.

A batch is a dict of one cell (N positions, M places for masked codes, S places for patients, K corpora of a
mixture, see `Layout`):

token_ids        int32 [P]    after masking; 0 at padding
visit_ids        int32 [P]    from 1 at codes, 0 at `[CLS]` and padding
position_ids     int32 [P]    from 0 in each patient
patient_ids      int32 [P]    from 1 in each window; 0 at padding
dropout_keys     int32 [P]    random, of the full range
masked_places    int32 [M]    positions of the masked codes; 0 in unused slots, as below
masked_ids       int32 [M]    ids of the masked codes
masked_weights   float32 [M]  1 or 0
patient_places   int32 [S]    first position of each patient
patient_weights  float32 [S]  1 or 0
masked_total, patient_total     float32 []   sums of the weights over the whole update
corpus_patients, corpus_tokens  float32 [C]  counts of each corpus in the cell; only in mixtures

Legend: W windows of one length in an update, T positions of each, C cells.
"""

import bisect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from operator import attrgetter
from typing import Any

import tensorflow as tf

from ehr_bert.errors import UserError
from ehr_bert.examples.layout import Layout
from ehr_bert.examples.records import Stretch, records_from

STRETCHES_AT_A_TIME = 8
"""Stretches of files whose records are read in turn; the order of the windows depends on it."""

SHUFFLED_TOGETHER = 50_000
"""Windows of one length that are shuffled among themselves at a time; the order depends on it."""

CORPUS_COUNTS = ("corpus_patients", "corpus_tokens")
"""What is counted of each corpus of a mixture."""

_LARGEST_DENOMINATOR = 1 << 31
"""Of a quota: with it the product of a step and a quota's rest fits into 64 bits."""

Cells = dict[str, tf.Tensor]

plain_graph = tf.autograph.experimental.do_not_convert
"""Autograph has nothing to do here, and takes longer than all else to do it."""

_ORDER, _MASKING = 0, 1
"""What a seed is for."""


@dataclass(frozen=True)
class BatchSize:
    """How large an update is on average: one of the two.

    Attributes:
        patients: Patients.
        tokens: Real tokens.

    Raises:
        UserError: none or both are given, or one below 1.
    """

    patients: int | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        if (self.patients is None) == (self.tokens is None):
            raise UserError("a batch is given in patients or in tokens: give one of the two")
        if (self.patients or self.tokens or 0) < 1:
            raise UserError(
                f"a batch of {self.patients or self.tokens or 0} is asked for: it must be 1 at least"
            )


@dataclass(frozen=True)
class WindowClass:
    """All windows of one length.

    Attributes:
        stretches: Where they lie.
        length: Positions of each, T.
        masked: Places for masked codes in each, P.
        patients: Places for patients in each, S.
        decode: From records, string [W], where an empty one stands for an empty window, and a seed, int64
            [2], to what a batch holds, by window: [W, T], [W, P], [W, S]; places from the window's start.
    """

    stretches: tuple[Stretch, ...]
    length: int
    masked: int
    patients: int
    decode: Callable[[tf.Tensor, tf.Tensor], Cells]

    @property
    def windows(self) -> int:
        """How many there are."""
        return sum(stretch.records for stretch in self.stretches)


@dataclass(frozen=True)
class Portion:
    """What each update takes of one corpus.

    Attributes:
        classes: The corpus' windows.
        fraction: Of the corpus, that an update takes.
        share: Of the update, that the corpus makes up.
    """

    classes: Sequence[WindowClass]
    fraction: Fraction
    share: Fraction = Fraction(1)


class UpdateBatches:
    """The updates of a training, or the batches of an evaluation.

    Args:
        portions: What an update takes of each corpus, K of them.
        micro_batch_tokens: Positions of a cell at most, if one window of each length is not more.
        replicas: Devices, R.
        seed: Of the order and the masking.
        steps: How many there are, taken from the windows in stored order; None: endless, shuffled.

    Attributes:
        layout: Of a cell.
        micro_batches: Cells of each replica in an update, k.
        replicas: R.
        steps: As given.
        updates_per_epoch: How many updates take as much as the corpora have together.
    """

    def __init__(
        self,
        portions: Sequence[Portion],
        micro_batch_tokens: int,
        replicas: int,
        seed: tuple[int, int],
        steps: int | None = None,
    ) -> None:
        self.replicas = replicas
        self.steps = steps
        self.updates_per_epoch = float(sum(portion.share / portion.fraction for portion in portions))
        self._seed = seed
        self._corpora = len(portions)
        self._quotas = _by_length(
            _Quota(each, portion.fraction * each.windows, corpus)
            for corpus, portion in enumerate(portions)
            for each in portion.classes
        )
        # No more micro-batches than needed: each has room for a window of every length, used or not.
        self.micro_batches = smallest_fitting(
            max(map(_most, self._quotas.values())), micro_batch_tokens, lambda k: self._layout(k).positions
        )
        self.layout = self._layout(self.micro_batches)

    def dataset(self, first_step: int = 0, replicas: range | None = None) -> tf.data.Dataset:
        """The cells of each update: by micro-batch, and in each by replica.

        Args:
            first_step: Updates that have been made: the cells begin with those of the next.
            replicas: Those whose cells are wanted, by default all.
        """
        steps = tf.data.Dataset.range(first_step, self.steps or tf.int64.max)
        records = [
            quota.records(steps, first_step, self._seed, self.steps is None)
            for quotas in self._quotas.values()
            for quota in quotas
        ]
        cells = tf.constant(
            [
                micro_batch * self.replicas + replica
                for micro_batch in range(self.micro_batches)
                for replica in replicas or range(self.replicas)
            ]
        )

        @plain_graph
        def update(step: tf.Tensor, *records: tf.Tensor) -> Cells:
            return {name: tf.gather(values, cells) for name, values in self._cells(step, records).items()}

        return (
            tf.data.Dataset.zip((steps, *records))
            .map(update, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
            .prefetch(tf.data.AUTOTUNE)
            .unbatch()
            .prefetch(tf.data.AUTOTUNE)
        )

    def _layout(self, micro_batches: int) -> Layout:
        cells = micro_batches * self.replicas
        rows = {
            length: (-(-_most(quotas) // cells), [quota.windows for quota in quotas])
            for length, quotas in self._quotas.items()
        }
        return Layout(
            windows=tuple((count, length) for length, (count, _) in rows.items()),
            masked=sum(count * max(each.masked for each in classes) for count, classes in rows.values()),
            patients=sum(count * max(each.patients for each in classes) for count, classes in rows.values()),
            corpora=self._corpora if self._corpora > 1 else 0,
        )

    def _cells(self, step: tf.Tensor, records: Sequence[tf.Tensor]) -> Cells:
        """An update's batches, [C, ...] each."""
        cells = self.micro_batches * self.replicas
        parts: list[Cells] = []
        totals: Cells = {}
        counted = CORPUS_COUNTS if self.layout.corpora else ()
        counts = {name: tf.zeros([cells, self._corpora]) for name in counted}
        offset = 0
        serialized = iter(records)
        for rows, length in self.layout.windows:
            quotas = self._quotas[length]
            windows = _together([self._decoded(quota, step, next(serialized)) for quota in quotas])
            for weights in _with_suffix(windows, "_weights"):
                total = f"{weights.removesuffix('_weights')}_total"
                totals[total] = totals.get(total, tf.constant(0.0)) + tf.reduce_sum(windows[weights])
            dealt = {name: _deal(values, rows, cells) for name, values in windows.items()}  # [C, rows, ...]
            for name in counted:
                counts[name] += tf.reduce_sum(dealt.pop(name), axis=1)  # [C, K]
            starts = (offset + length * tf.range(rows))[:, None]  # [rows, 1]
            for places in _with_suffix(dealt, "_places"):
                is_used = dealt[f"{places.removesuffix('_places')}_weights"] > 0
                dealt[places] = tf.where(is_used, dealt[places] + starts, 0)
            parts.append({name: tf.reshape(values, [cells, -1]) for name, values in dealt.items()})
            offset += rows * length
        joined = {name: tf.concat([part[name] for part in parts], axis=1) for name in parts[0]}
        return joined | {name: tf.fill([cells], total) for name, total in totals.items()} | counts

    def _decoded(self, quota: "_Quota", step: tf.Tensor, serialized: tf.Tensor) -> Cells:
        """An update's windows of one length and corpus, [W, ...] each."""
        step_seed = _fold(self._seed, _MASKING, step)
        seed, keys_seed = tf.unstack(tf.random.split(_fold(step_seed, *quota.key), 2, alg="philox"))
        if self.steps is None:
            windows = quota.windows.decode(serialized, seed)
        else:
            numbers = quota.taken(step) + tf.range(quota.most, dtype=tf.int64)
            own_seed = _fold(self._seed, _MASKING, *quota.key)
            windows = _one_by_one(quota.windows, serialized, own_seed, numbers)
        windows["dropout_keys"] = tf.random.stateless_uniform(
            [quota.most, quota.windows.length], keys_seed, None, None, tf.int32, alg="philox"
        )
        if self.layout.corpora:
            own = tf.one_hot(quota.corpus, self._corpora)  # [K]
            real = tf.cast(windows["patient_ids"] > 0, tf.float32)
            for name, marks in zip(CORPUS_COUNTS, (windows["patient_weights"], real), strict=True):
                windows[name] = tf.reduce_sum(marks, axis=1, keepdims=True) * own
        return windows


def _with_suffix(tensors: Cells, suffix: str) -> list[str]:
    return [name for name in tensors if name.endswith(suffix)]


def _together(parts: Sequence[Cells]) -> Cells:
    """Windows of one length of several corpora as one, with the most places that any of them has."""
    if len(parts) == 1:
        return parts[0]
    widths = {name: max(part[name].shape[1] for part in parts) for name in parts[0]}
    return {
        name: tf.concat(
            [tf.pad(part[name], [[0, 0], [0, width - part[name].shape[1]]]) for part in parts], axis=0
        )
        for name, width in widths.items()
    }


def _one_by_one(windows: WindowClass, serialized: tf.Tensor, seed: tf.Tensor, numbers: tf.Tensor) -> Cells:
    """Windows decoded each by a seed of its own, so that it is masked alike in whatever batch it comes."""

    def decode(one: tuple[tf.Tensor, tf.Tensor]) -> Cells:
        record, number = one
        decoded = windows.decode(tf.reshape(record, [1]), _fold(seed, number))
        return {name: values[0] for name, values in decoded.items()}

    empty = windows.decode(tf.constant([""]), tf.cast(seed, tf.int64))
    signature = {name: tf.TensorSpec(values.shape[1:], values.dtype) for name, values in empty.items()}
    return tf.map_fn(decode, (serialized, numbers), fn_output_signature=signature)


def smallest_fitting(most: int, limit: int, size: Callable[[int], int]) -> int:
    """The smallest number from 1 to `most` whose size is within the limit; sizes don't grow with the number.

    If none is, the smallest whose size is the least.
    """
    reachable = max(limit, size(most))
    return 1 + bisect.bisect_left(range(1, most), True, key=lambda number: size(number) <= reachable)


class _Quota:
    """What each update takes of the windows of one length and corpus.

    Args:
        windows: The windows.
        share: How many an update takes on average.
        corpus: The corpus' place among the portions.

    Attributes:
        windows: As given.
        corpus: As given.
        most: How many windows an update takes at most.
    """

    def __init__(self, windows: WindowClass, share: Fraction, corpus: int = 0) -> None:
        self.windows = windows
        self.corpus = corpus
        share = share.limit_denominator(_LARGEST_DENOMINATOR)
        self.most = math.ceil(share)
        self._whole, self._rest = divmod(share.numerator, share.denominator)
        self._denominator = share.denominator

    @property
    def key(self) -> tuple[int, ...]:
        """Tells it from the others; its seeds follow from it."""
        # The first corpus has the stream that it has alone.
        return (self.windows.length, self.corpus) if self.corpus else (self.windows.length,)

    def taken(self, steps: Any) -> Any:
        """Windows that so many updates take, rounded down; in whole numbers, so that none is ever lost."""
        return steps * self._whole + steps * self._rest // self._denominator

    def records(
        self, steps: tf.data.Dataset, first_step: int, seed: tuple[int, int], shuffled: bool
    ) -> tf.data.Dataset:
        """The records of each of the steps, string [W]; empty ones fill up what a step has no window for."""
        used = self.taken(first_step)
        records = self._shuffled(seed, used) if shuffled else _in_order(self.windows.stretches).skip(used)

        @plain_graph
        def sources(step: tf.Tensor) -> tf.Tensor:  # [W], 0 for a record and 1 for an empty one
            count = self.taken(step + 1) - self.taken(step)
            return tf.cast(tf.range(self.most, dtype=tf.int64) >= count, tf.int64)

        empty = tf.data.Dataset.from_tensors("").repeat()
        filled = tf.data.Dataset.choose_from_datasets([records, empty], steps.map(sources).unbatch())
        return filled.batch(self.most, drop_remainder=True)

    def _shuffled(self, seed: tuple[int, int], used: int) -> tf.data.Dataset:
        """The records, epoch after epoch, each in an order of its own, without the first `used`."""
        stretches = self.windows.stretches
        order_seed = _fold(seed, _ORDER, *self.key)
        first_epoch, used_of_epoch = divmod(used, self.windows.windows)

        @plain_graph
        def epoch_records(epoch: tf.Tensor) -> tf.data.Dataset:
            # `Dataset.shuffle` would depend on `tf.random.set_seed` too.
            epoch_seed = _fold(order_seed, epoch)
            order = tf.random.experimental.stateless_shuffle(
                tf.range(len(stretches)), epoch_seed, alg="philox"
            )
            records = _as_dataset(stretches, order).interleave(
                _read,
                cycle_length=STRETCHES_AT_A_TIME,
                num_parallel_calls=tf.data.AUTOTUNE,
                deterministic=True,
            )

            @plain_graph
            def shuffle(number: tf.Tensor, block: tf.Tensor) -> tf.Tensor:
                return tf.random.experimental.stateless_shuffle(
                    block, _fold(epoch_seed, number), alg="philox"
                )

            return records.batch(SHUFFLED_TOGETHER).enumerate().map(shuffle).unbatch()

        return tf.data.Dataset.counter(first_epoch).flat_map(epoch_records).skip(used_of_epoch)


def _most(quotas: Iterable[_Quota]) -> int:
    """How many windows an update takes at most by all of these quotas."""
    return sum(quota.most for quota in quotas)


def _by_length(quotas: Iterable[_Quota]) -> Mapping[int, Sequence[_Quota]]:
    """The quotas by ascending length of their windows, those of one length by corpus."""
    ordered = sorted(quotas, key=attrgetter("key"))
    return {length: tuple(each) for length, each in groupby(ordered, attrgetter("windows.length"))}


def _in_order(stretches: Sequence[Stretch]) -> tf.data.Dataset:
    return _as_dataset(stretches, tf.range(len(stretches))).flat_map(_read)


def _as_dataset(stretches: Sequence[Stretch], order: tf.Tensor) -> tf.data.Dataset:
    columns = (
        [str(stretch.path) for stretch in stretches],
        [stretch.offset for stretch in stretches],
        [stretch.records for stretch in stretches],
    )
    dtypes = (tf.string, tf.int64, tf.int64)
    return tf.data.Dataset.from_tensor_slices(
        tuple(
            tf.gather(tf.constant(column, dtype), order)
            for column, dtype in zip(columns, dtypes, strict=True)
        )
    )


def _read(path: tf.Tensor, offset: tf.Tensor, records: tf.Tensor) -> tf.data.Dataset:
    return records_from(path, offset).take(records)


def _deal(values: tf.Tensor, rows: int, cells: int) -> tf.Tensor:
    """Deals windows out in turn, and fills up with empty ones: [C, rows, ...] of [W, ...]."""
    missing = rows * cells - values.shape[0]
    filled = tf.pad(values, [[0, missing], [0, 0]])
    return tf.transpose(tf.reshape(filled, [rows, cells, values.shape[1]]), [1, 0, 2])


def _fold(seed: Any, *numbers: Any) -> tf.Tensor:
    """A seed that follows from another one and numbers, int64 [2]."""
    folded = tf.cast(seed, tf.int64)
    for number in numbers:
        folded = tf.random.fold_in(folded, tf.cast(number, tf.int64), alg="philox")
    return folded
