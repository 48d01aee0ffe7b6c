"""The common way to write examples: one `tf.train.Example` with seven padded lists per patient.

    python benchmarks/python_examples.py SEQUENCES OUT PATIENTS MAX_SEQ_LENGTH

Reads a Parquet file of sequences. Prints JSON.
"""

import json
import random
import sys
import time

import pyarrow.parquet as pq
import tensorflow as tf


def features(tokens: list[int], visits: list[int], stays: list[int], length: int) -> dict[str, list]:
    """Return the seven features of one patient, masked and padded."""
    input_ids, segment_ids = tokens[-length:], visits[-length:]
    input_mask = [1] * len(input_ids)
    candidates = list(range(len(input_ids)))
    random.shuffle(candidates)
    predictions = max(1, round(0.15 * length))
    positions, ids, weights = [], [], []
    for place in sorted(candidates[: min(predictions, max(1, round(0.15 * len(input_ids))))]):
        positions.append(place)
        ids.append(input_ids[place])
        weights.append(1.0)
        if random.random() < 0.8:
            input_ids[place] = 4
    while len(input_ids) < length:
        input_ids.append(0)
        input_mask.append(0)
        segment_ids.append(0)
    while len(positions) < predictions:
        positions.append(0)
        ids.append(0)
        weights.append(0.0)
    return {
        "input_ids": input_ids,
        "input_mask": input_mask,
        "segment_ids": segment_ids,
        "masked_lm_positions": positions,
        "masked_lm_ids": ids,
        "masked_lm_weights": weights,
        "next_sentence_labels": [int(max(stays) > 7)],
    }


def feature(values: list) -> tf.train.Feature:
    """Convert a list to a feature."""
    if isinstance(values[0], float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def main() -> None:
    """Write the examples. The time to read the sequences is not counted."""
    sequences, out, patients, length = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    rows = pq.read_table(sequences).slice(0, patients).to_pylist()
    start = time.perf_counter()
    with tf.io.TFRecordWriter(out) as writer:
        for row in rows:
            lists = features(row["token_ids"], row["visit_ids"], row["los_days"], length)
            example = tf.train.Example(
                features=tf.train.Features(feature={name: feature(values) for name, values in lists.items()})
            )
            writer.write(example.SerializeToString())
    print(json.dumps({"examples": len(rows), "seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main()
