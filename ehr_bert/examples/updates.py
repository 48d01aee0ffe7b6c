"""Updates: windows in the order of training, distributed to devices as flat batches.

An update has a portion of each corpus. The portion has windows of each length in proportion to their number,
so that an epoch of a corpus ends at the same time for all lengths. The windows are decoded and masked
together, and then distributed to cells, one per micro-batch and replica. Everything follows from the seed and
the number of the update.

A batch is a dict of one cell, see `Layout`:

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
corpus_patients, corpus_tokens  float32 [corpora]  counts of each corpus in the cell; only in mixtures

Objectives add labels, with one number per position, masked code or patient. The endings of names have a
meaning: `<name>_places` are positions in the window, and become positions in the batch, or 0 where
`<name>_weights` is 0. For each `<name>_weights` there is a `<name>_total`, the sum over the whole update.

Legend: P positions, M slots for masked codes and S slots for patients of a batch; W windows of one length in
    an update, T tokens, X slots for masked codes and Y slots for patients of a window.
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
"""Number of stretches of files that are read alternately. The order of windows depends on it."""

SHUFFLED_TOGETHER = 50_000
"""Number of windows of one length that are shuffled at a time. The order of windows depends on it."""

CORPUS_COUNTS = ("corpus_patients", "corpus_tokens")
"""Counts of each corpus of a mixture."""

_LARGEST_DENOMINATOR = 1 << 31
"""Largest denominator of a quota. With it, the product of a step and a remainder fits into 64 bits."""

Cells = dict[str, tf.Tensor]

plain_graph = tf.autograph.experimental.do_not_convert
"""Disables Autograph, which these functions do not need, and which is slow."""

_ORDER, _MASKING = 0, 1
"""Purposes of a seed."""


@dataclass(frozen=True)
class BatchSize:
    """Average size of an update, in patients or in tokens.

    Attributes:
        patients: Number of patients.
        tokens: Number of real tokens.

    Raises:
        UserError: Both or none are given, or the size is below 1 (key `invalid-batch-size`).
    """

    patients: int | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        if (self.patients is None) == (self.tokens is None):
            raise UserError(
                "invalid-batch-size", "a batch needs a size in patients or in tokens. Set one of them."
            )
        if (self.patients or self.tokens or 0) < 1:
            raise UserError(
                "invalid-batch-size",
                f"the batch size is {self.patients or self.tokens or 0}. It must be 1 or more.",
            )


@dataclass(frozen=True)
class WindowClass:
    """All windows of one length.

    Attributes:
        stretches: Stretches of files that contain them.
        length: Tokens of each window, T.
        masked: Slots for masked codes of each window, X.
        patients: Slots for patients of each window, Y.
        decode: Maps records, string `[W]`, and a seed, int64 `[2]`, to the tensors of a batch, by window:
            `[W, T]`, `[W, X]`, `[W, Y]`. An empty record is an empty window. Places count from the start of
            the window.
    """

    stretches: tuple[Stretch, ...]
    length: int
    masked: int
    patients: int
    decode: Callable[[tf.Tensor, tf.Tensor], Cells]

    @property
    def windows(self) -> int:
        """Number of windows."""
        return sum(stretch.records for stretch in self.stretches)


@dataclass(frozen=True)
class Portion:
    """The portion of one corpus in each update.

    Attributes:
        classes: Windows of the corpus.
        fraction: Share of the corpus used per update.
        share: Share of the corpus in the update.
    """

    classes: Sequence[WindowClass]
    fraction: Fraction
    share: Fraction = Fraction(1)


class UpdateBatches:
    """The updates of a training run, or the batches of an evaluation.

    Args:
        portions: Portion of each corpus in an update.
        micro_batch_tokens: Largest number of positions of a cell, unless one window of each length has more.
        replicas: Number of devices.
        seed: Seed of the order and the masking.
        steps: Number of updates, with the windows in stored order. If None, updates are endless and shuffled.

    Attributes:
        layout: Shape of a cell.
        micro_batches: Number of cells per replica and update.
        replicas: As given.
        steps: As given.
        updates_per_epoch: Number of updates that are as large as all corpora together.
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
            _Quota(windows, portion.fraction * windows.windows, corpus)
            for corpus, portion in enumerate(portions)
            for windows in portion.classes
        )
        # As few micro-batches as possible: each has room for a window of every length, used or not.
        self.micro_batches = smallest_fitting(
            max(map(_most, self._quotas.values())), micro_batch_tokens, lambda k: self._layout(k).positions
        )
        self.layout = self._layout(self.micro_batches)

    def dataset(self, first_step: int = 0, replicas: range | None = None) -> tf.data.Dataset:
        """Return the cells of each update, ordered by micro-batch and then by replica.

        Args:
            first_step: Number of previous updates. The cells start with those of the next one.
            replicas: Replicas whose cells are returned. By default, all.
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
            masked=sum(count * max(same.masked for same in classes) for count, classes in rows.values()),
            patients=sum(count * max(same.patients for same in classes) for count, classes in rows.values()),
            corpora=self._corpora if self._corpora > 1 else 0,
        )

    def _cells(self, step: tf.Tensor, records: Sequence[tf.Tensor]) -> Cells:
        """Return the batches of an update, `[cells, ...]` each."""
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
            # Each is [cells, rows, ...].
            dealt = {name: _deal(values, rows, cells) for name, values in windows.items()}
            for name in counted:
                counts[name] += tf.reduce_sum(dealt.pop(name), axis=1)  # [cells, corpora]
            starts = (offset + length * tf.range(rows))[:, None]  # [rows, 1]
            for places in _with_suffix(dealt, "_places"):
                is_used = dealt[f"{places.removesuffix('_places')}_weights"] > 0
                dealt[places] = tf.where(is_used, dealt[places] + starts, 0)
            parts.append({name: tf.reshape(values, [cells, -1]) for name, values in dealt.items()})
            offset += rows * length
        joined = {name: tf.concat([part[name] for part in parts], axis=1) for name in parts[0]}
        return joined | {name: tf.fill([cells], total) for name, total in totals.items()} | counts

    def _decoded(self, quota: "_Quota", step: tf.Tensor, serialized: tf.Tensor) -> Cells:
        """Return the windows of one length and corpus in an update, `[W, ...]` each."""
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
            own = tf.one_hot(quota.corpus, self._corpora)  # [corpora]
            real = tf.cast(windows["patient_ids"] > 0, tf.float32)
            for name, marks in zip(CORPUS_COUNTS, (windows["patient_weights"], real), strict=True):
                windows[name] = tf.reduce_sum(marks, axis=1, keepdims=True) * own
        return windows


def _with_suffix(tensors: Cells, suffix: str) -> list[str]:
    return [name for name in tensors if name.endswith(suffix)]


def _together(parts: Sequence[Cells]) -> Cells:
    """Join windows of one length of several corpora, padded to the largest number of slots."""
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
    """Decode each window with a separate seed, so that its masks do not depend on its batch."""

    def decode(one: tuple[tf.Tensor, tf.Tensor]) -> Cells:
        record, number = one
        decoded = windows.decode(tf.reshape(record, [1]), _fold(seed, number))
        return {name: values[0] for name, values in decoded.items()}

    empty = windows.decode(tf.constant([""]), tf.cast(seed, tf.int64))
    signature = {name: tf.TensorSpec(values.shape[1:], values.dtype) for name, values in empty.items()}
    return tf.map_fn(decode, (serialized, numbers), fn_output_signature=signature)


def smallest_fitting(most: int, limit: int, size: Callable[[int], int]) -> int:
    """Return the smallest number from 1 to `most` whose size is within the limit, or else is the least.

    Sizes must not grow with the number.
    """
    reachable = max(limit, size(most))
    return 1 + bisect.bisect_left(range(1, most), True, key=lambda number: size(number) <= reachable)


class _Quota:
    """The number of windows of one length and corpus in each update.

    Args:
        windows: The windows.
        share: Average number of windows per update.
        corpus: Number of the corpus among the portions.

    Attributes:
        windows: As given.
        corpus: As given.
        most: Largest number of windows per update.
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
        """Identifies the quota. Its seeds follow from it."""
        # The first corpus has the same stream in a mixture as alone.
        return (self.windows.length, self.corpus) if self.corpus else (self.windows.length,)

    def taken(self, steps: Any) -> Any:
        """Return the number of windows in `steps` updates, rounded down. It is exact: none is lost."""
        return steps * self._whole + steps * self._rest // self._denominator

    def records(
        self, steps: tf.data.Dataset, first_step: int, seed: tuple[int, int], shuffled: bool
    ) -> tf.data.Dataset:
        """Return the records of each step, string `[W]`, padded with empty ones."""
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
        """Return the records of all epochs, each in a different order, without the first `used`."""
        stretches = self.windows.stretches
        order_seed = _fold(seed, _ORDER, *self.key)
        first_epoch, used_of_epoch = divmod(used, self.windows.windows)

        @plain_graph
        def epoch_records(epoch: tf.Tensor) -> tf.data.Dataset:
            # `Dataset.shuffle` would also depend on `tf.random.set_seed`.
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
    """Return the largest number of windows per update, over all quotas."""
    return sum(quota.most for quota in quotas)


def _by_length(quotas: Iterable[_Quota]) -> Mapping[int, Sequence[_Quota]]:
    """Return the quotas by ascending window length, and those of one length by corpus."""
    ordered = sorted(quotas, key=attrgetter("key"))
    return {length: tuple(group) for length, group in groupby(ordered, attrgetter("windows.length"))}


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
    """Distribute windows `[W, ...]` to cells in turn, padded with empty windows: `[cells, rows, ...]`."""
    missing = rows * cells - values.shape[0]
    filled = tf.pad(values, [[0, missing], [0, 0]])
    return tf.transpose(tf.reshape(filled, [rows, cells, values.shape[1]]), [1, 0, 2])


def _fold(seed: Any, *numbers: Any) -> tf.Tensor:
    """Derive a seed from another one and numbers, int64 `[2]`."""
    folded = tf.cast(seed, tf.int64)
    for number in numbers:
        folded = tf.random.fold_in(folded, tf.cast(number, tf.int64), alg="philox")
    return folded
