"""From TFRecord files of examples to batches for the model.

A batch is a dict (B examples, L = max_seq_length, P = max_predictions_per_seq):

input_ids, input_mask, segment_ids       int32 [B, L]
masked_lm_positions, masked_lm_ids       int32 [B, P]
masked_lm_weights                        float32 [B, P], 1 for masked codes and 0 for padding
next_sentence_labels                     int32 [B], 1 for a prolonged stay
example_weight                           float32 [B], 1 for examples and 0 for rows that fill up a batch

Files may hold examples of any length: they are padded with zeros, or cut, to L and P.
"""

import glob
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from ehr_bert.errors import UserError
from ehr_bert.examples.sidecars import Sidecar, find_sidecar, find_vocabulary, is_sidecar
from ehr_bert.vocabulary import Vocabulary

FILES_AT_A_TIME = 8
"""Files whose examples are read in turn; the order of the examples depends on it."""

FEATURES: dict[str, tf.DType] = {
    "input_ids": tf.int64,
    "input_mask": tf.int64,
    "segment_ids": tf.int64,
    "masked_lm_positions": tf.int64,
    "masked_lm_ids": tf.int64,
    "masked_lm_weights": tf.float32,
    "next_sentence_labels": tf.int64,
}
"""The stored features and their types."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class ExamplesInfo:
    """What a list of TFRecord files holds. What is None is unknown, since nothing beside the files tells it.

    Attributes:
        files: Names of the files.
        examples: Examples in all.
        max_seq_length: Stored tokens of an example at most, padding counted.
        max_predictions_per_seq: Stored masked codes of an example at most, padding counted.
        longest: Real tokens of the longest example.
        max_id: The last id of the vocabulary, or the largest one found.
        kind: The kind of examples, see `tutorial.KIND`.
        mask_id: The id that hides a code.
        cls_id: The id of the `[CLS]` that leads each example; where `kind` is known, None if there is none.
        vocabulary: The tokens.
    """

    files: tuple[str, ...]
    examples: int
    max_seq_length: int
    max_predictions_per_seq: int
    longest: int
    max_id: int
    kind: str | None = None
    mask_id: int | None = None
    cls_id: int | None = None
    vocabulary: Vocabulary | None = None

    def to_dict(self) -> dict[str, Any]:
        """Its values for JSON, with the vocabulary's fingerprint in place of it."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        vocabulary = values.pop("vocabulary")
        return values | {
            "files": list(self.files),
            "vocabulary_sha256": vocabulary.sha256 if vocabulary else None,
        }


def expand(patterns: str) -> list[Path]:
    """The files of a comma-separated list of paths and globs, sorted within a glob, sidecars left out.

    Raises:
        UserError: a pattern matches no file.
    """
    files: list[Path] = []
    for pattern in patterns.split(","):
        matches = (Path(match) for match in sorted(glob.glob(pattern.strip())))
        found = [match for match in matches if match.is_file() and not is_sidecar(match)]
        if not found:
            raise UserError(f"no file of examples matches {pattern.strip()!r}: see how it is written")
        files += found
    return files


def describe(files: Sequence[Path]) -> ExamplesInfo:
    """What the files hold, by their sidecars; a file that has none is read once.

    Raises:
        UserError: a file is missing, cut off or damaged, or holds something else; there are no examples;
            or files were made with different vocabularies or choices.
    """
    sidecars = {file: sidecar for file in files if (sidecar := find_sidecar(file))}
    infos = [_told(file, sidecars[file]) if file in sidecars else _scanned(file) for file in files]
    if not any(info.examples for info in infos):
        raise UserError(f"there are no examples in {', '.join(map(str, files))}: make them of more patients")
    return ExamplesInfo(
        files=tuple(file.name for file in files),
        examples=sum(info.examples for info in infos),
        max_seq_length=max(info.max_seq_length for info in infos),
        max_predictions_per_seq=max(info.max_predictions_per_seq for info in infos),
        longest=max(info.longest for info in infos),
        max_id=max(info.max_id for info in infos),
        kind=_common(info.kind for info in infos),
        mask_id=_common(info.mask_id for info in infos),
        cls_id=_common(info.cls_id for info in infos),
        vocabulary=_vocabulary(sidecars),
    )


def training_batches(
    files: Sequence[Path],
    *,
    examples: int,
    batch_size: int,
    max_seq_length: int,
    max_predictions_per_seq: int,
    max_visits: int,
    seed: int,
    start_step: int = 0,
    shuffle_buffer: int = 50_000,
) -> tf.data.Dataset:
    """Endless full batches, each epoch in an order of its own that follows from `seed` and its number.

    Args:
        files: TFRecord files.
        examples: How many they hold, see `describe`.
        batch_size: B; a batch may span two epochs.
        max_seq_length: L.
        max_predictions_per_seq: P.
        max_visits: Segment ids are clamped below it, see `ModelConfig.type_vocab_size`.
        seed: Of the order.
        start_step: Batches that have been used: the stream begins with the one after them.
        shuffle_buffer: Examples that are shuffled among themselves at a time; the files are shuffled too.
    """
    start_epoch, used = divmod(start_step * batch_size, examples)
    paths = [str(file) for file in files]

    def epoch_records(epoch: tf.Tensor) -> tf.data.Dataset:
        # `Dataset.shuffle` would depend on `tf.random.set_seed` too.
        epoch_seed = tf.stack([tf.constant(seed, tf.int64), epoch])
        shuffled_paths = tf.random.experimental.stateless_shuffle(paths, epoch_seed, alg="philox")
        records = tf.data.Dataset.from_tensor_slices(shuffled_paths).interleave(
            tf.data.TFRecordDataset,
            cycle_length=FILES_AT_A_TIME,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )

        def shuffle(number: tf.Tensor, block: tf.Tensor) -> tf.Tensor:
            block_seed = tf.random.fold_in(epoch_seed, number, alg="philox")
            return tf.random.experimental.stateless_shuffle(block, block_seed, alg="philox")

        return records.batch(shuffle_buffer).enumerate().map(shuffle).unbatch()

    records = tf.data.Dataset.counter(start_epoch).flat_map(epoch_records).skip(used)
    return _batches(records, batch_size, max_seq_length, max_predictions_per_seq, max_visits)


def evaluation_batches(
    files: Sequence[Path],
    *,
    batch_size: int,
    max_seq_length: int,
    max_predictions_per_seq: int,
    max_visits: int,
    max_steps: int,
) -> tf.data.Dataset:
    """The examples once, in stored order, `max_steps` batches at most.

    The last batch is filled up with rows of zeros, whose `example_weight` is 0.

    Args:
        files: TFRecord files.
        batch_size: B.
        max_seq_length: L.
        max_predictions_per_seq: P.
        max_visits: Segment ids are clamped below it, see `ModelConfig.type_vocab_size`.
        max_steps: Batches at most.
    """
    records = tf.data.TFRecordDataset([str(file) for file in files])
    # The empty record is an example without features, whose rows are padding alone.
    filler = tf.data.Dataset.from_tensors("").repeat(batch_size - 1)
    batches = _batches(
        records.concatenate(filler), batch_size, max_seq_length, max_predictions_per_seq, max_visits
    )
    return batches.take(max_steps)


def _batches(
    records: tf.data.Dataset,
    batch_size: int,
    max_seq_length: int,
    max_predictions_per_seq: int,
    max_visits: int,
) -> tf.data.Dataset:
    """Serialized examples as full batches."""

    def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:  # [B]
        stored = _parse(serialized)

        def rows(name: str, width: int) -> tf.Tensor:  # [B, width]
            values = tf.ensure_shape(stored[name].to_tensor(shape=[None, width]), [batch_size, width])
            return values if values.dtype == tf.float32 else tf.cast(values, tf.int32)

        positions = rows("masked_lm_positions", max_predictions_per_seq)
        seen = positions < max_seq_length
        return {
            "input_ids": rows("input_ids", max_seq_length),
            "input_mask": rows("input_mask", max_seq_length),
            "segment_ids": tf.minimum(rows("segment_ids", max_seq_length), max_visits - 1),
            "masked_lm_positions": tf.where(seen, positions, 0),
            "masked_lm_ids": tf.where(seen, rows("masked_lm_ids", max_predictions_per_seq), 0),
            "masked_lm_weights": tf.where(seen, rows("masked_lm_weights", max_predictions_per_seq), 0.0),
            "next_sentence_labels": rows("next_sentence_labels", 1)[:, 0],
            "example_weight": tf.cast(tf.strings.length(serialized) > 0, tf.float32),
        }

    batches = (
        records.batch(batch_size, drop_remainder=True)
        .map(parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .prefetch(tf.data.AUTOTUNE)
    )
    options = tf.data.Options()
    # Every host reads all files and takes its share of each batch: the batches are the same on any number.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.with_options(options)


def _parse(serialized: tf.Tensor) -> dict[str, tf.RaggedTensor]:
    """The stored features of serialized examples: a row an example, as long as it was stored."""
    return tf.io.parse_example(
        serialized, {name: tf.io.RaggedFeature(dtype) for name, dtype in FEATURES.items()}
    )


def _vocabulary(sidecars: Mapping[Path, Sidecar]) -> Vocabulary | None:
    """The vocabulary that all files agree on, None where no file tells of one."""
    if not sidecars:
        return None
    first, sidecar = next(iter(sidecars.items()))
    for file, other in sidecars.items():
        if other.vocabulary_sha256 != sidecar.vocabulary_sha256:
            raise UserError(
                f"{first} and {file} were made with different vocabularies: make both with the same one"
            )
        if (other.mask_id, other.cls_id) != (sidecar.mask_id, sidecar.cls_id):
            raise UserError(
                f"one of {first} and {file} was made with Med-BERT's choices: make both the same way"
            )
    path = find_vocabulary(first)
    vocabulary = Vocabulary.read(path)
    if vocabulary.sha256 != sidecar.vocabulary_sha256:
        raise UserError(f"{path} is not the vocabulary that {first} was made with: make both again")
    return vocabulary


def _told(file: Path, sidecar: Sidecar) -> ExamplesInfo:
    facts = sidecar.files[file.name]
    size = file.stat().st_size if file.exists() else 0
    if size != facts.bytes:
        raise UserError(
            f"{file} is missing, cut off or replaced, for it has {size:,} bytes and was written with "
            f"{facts.bytes:,}: make it again"
        )
    return ExamplesInfo(
        files=(file.name,),
        examples=facts.records,
        max_seq_length=sidecar.settings.max_seq_length,
        max_predictions_per_seq=sidecar.settings.max_predictions_per_seq,
        longest=facts.longest,
        max_id=sidecar.vocab_size - 1,
        kind=sidecar.kind,
        mask_id=sidecar.mask_id,
        cls_id=sidecar.cls_id,
    )


def _scanned(file: Path) -> ExamplesInfo:
    count = 0
    extremes = np.zeros(4, np.int64)
    try:
        with tqdm(desc=f"reading {file}", unit=" examples", disable=None) as progress:
            for serialized in tf.data.TFRecordDataset(str(file)).batch(4096):
                stored = _parse(serialized)
                ids = tf.concat([stored["input_ids"].values, stored["masked_lm_ids"].values], axis=0)
                of_batch = [
                    tf.reduce_max(stored["input_ids"].row_lengths()),
                    tf.reduce_max(stored["masked_lm_ids"].row_lengths()),
                    tf.reduce_max(tf.reduce_sum(stored["input_mask"], axis=1)),
                    tf.reduce_max(ids),
                ]
                extremes = np.maximum(extremes, of_batch)
                count += len(serialized)
                progress.update(len(serialized))
    except tf.errors.OpError as error:
        raise UserError(
            f"{file} is missing, cut off or no TFRecord file of examples ({count:,} could be read): "
            "make it again"
        ) from error
    max_seq_length, max_predictions_per_seq, longest, max_id = extremes.tolist()
    if count and not max_seq_length:
        raise UserError(f"{file} holds records without input_ids: name a file of examples")
    return ExamplesInfo(
        files=(file.name,),
        examples=count,
        max_seq_length=max_seq_length,
        max_predictions_per_seq=max_predictions_per_seq,
        longest=longest,
        max_id=max_id,
    )


def _common(values: Iterable[Value]) -> Value | None:
    """The value that all agree on, if they do."""
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else None
