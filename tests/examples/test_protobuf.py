import numpy as np
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from ehr_bert.examples.protobuf import Column, serialize

rows = st.lists(
    st.tuples(
        st.lists(st.one_of(st.integers(0, 300), st.integers(-(2**63), 2**63 - 1)), max_size=5),
        st.lists(st.floats(width=32, allow_nan=False), max_size=3),
    ),
    min_size=1,
    max_size=7,
)


def column(rows, dtype, width):
    lengths = np.array([len(row) for row in rows], np.int64)
    return Column(np.array([value for row in rows for value in row], dtype), lengths, width)


@given(rows)
def test_bytes_parse_to_the_padded_values(rows):
    integers, floats = [row[0] for row in rows], [row[1] for row in rows]
    serialized = serialize({"some_ids": column(integers, np.int64, 5), "w": column(floats, np.float32, 3)})
    for message, expected_integers, expected_floats in zip(serialized, integers, floats, strict=True):
        feature = tf.train.Example.FromString(message).features.feature
        assert sorted(feature) == ["some_ids", "w"]
        assert [*feature["some_ids"].int64_list.value] == expected_integers + [0] * (
            5 - len(expected_integers)
        )
        assert [*feature["w"].float_list.value] == expected_floats + [0.0] * (3 - len(expected_floats))


def test_messages_equal_those_of_the_library_for_one_feature():
    values = list(range(0, 40_000, 131))
    feature = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    example = tf.train.Example(features=tf.train.Features(feature={"input_ids": feature}))
    assert serialize({"input_ids": column([values], np.int32, len(values))}) == [example.SerializeToString()]


def test_a_parser_of_fixed_lengths_reads_all_examples():
    rng = np.random.default_rng(0)
    ids = [rng.integers(0, 82_603, length).tolist() for length in rng.integers(0, 8, 13)]
    parsed = tf.io.parse_example(
        serialize({"ids": column(ids, np.int32, 7)}), {"ids": tf.io.FixedLenFeature([7], tf.int64)}
    )
    assert parsed["ids"].numpy().tolist() == [row + [0] * (7 - len(row)) for row in ids]


def test_no_examples_give_no_messages():
    assert serialize({"ids": column([], np.int32, 7)}) == []
