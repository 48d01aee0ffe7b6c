import pytest
import tensorflow as tf

from ehr_bert.examples.records import FRAMING, check, records_from
from tests.user_errors import raises_user_error

SIZES = [9, 11, 7, 30, 12]


def parse(records):
    return tf.io.parse_example(records, {"x": tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64)})


def measure(stored):
    values = stored["x"]
    return values.row_lengths() > 0, tf.stack([values.row_lengths(), tf.reduce_max(values, axis=1)], axis=1)


def example(*values):
    feature = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Example(features=tf.train.Features(feature={"x": feature})).SerializeToString()


RECORDS = [example(*range(size)) for size in SIZES]


def write(path, records=RECORDS):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return path


def start_of(record):
    return sum(len(content) + FRAMING for content in RECORDS[:record])


def flip(path, byte):
    content = bytearray(path.read_bytes())
    content[byte] ^= 0x10
    path.write_bytes(content)


def read(checked):
    contents = []
    for stretch in checked.stretches:
        start = tf.data.Dataset.from_tensors((str(stretch.path), tf.constant(stretch.offset, tf.int64)))
        contents += [record.numpy() for record in start.flat_map(records_from).take(stretch.records)]
    return contents


def test_a_valid_file_is_one_stretch(tmp_path):
    checked = check(write(tmp_path / "F"), parse, measure, 0)
    assert len(checked.stretches) == 1
    assert (checked.records, checked.corrupt) == (5, 0)
    assert (checked.sums, checked.largest) == ([sum(SIZES), sum(SIZES) - 5], [30, 29])
    assert read(checked) == RECORDS


@pytest.mark.parametrize("record", range(5))
def test_a_record_with_a_flipped_byte_is_skipped(tmp_path, record):
    path = write(tmp_path / "F")
    flip(path, start_of(record) + 12 + 3)
    checked = check(path, parse, measure, 1)
    assert checked.corrupt == 1
    assert read(checked) == RECORDS[:record] + RECORDS[record + 1 :]
    assert checked.sums[0] == sum(SIZES) - SIZES[record]


@pytest.mark.parametrize("other", [b"\xff no message", example(), b""])
def test_other_records_are_skipped(tmp_path, other):
    path = write(tmp_path / "F", [RECORDS[0], other, RECORDS[1], other, other, RECORDS[2]])
    checked = check(path, parse, measure, 3)
    assert checked.corrupt == 3
    assert read(checked) == RECORDS[:3]


def test_more_corrupt_records_than_accepted_are_refused(tmp_path):
    path = write(tmp_path / "F")
    for record in (1, 3):
        flip(path, start_of(record) + 12)
    with raises_user_error("too-many-corrupt-records", path):
        check(path, parse, measure, 1)


def test_a_length_beyond_the_end_of_the_file_is_refused(tmp_path):
    path = write(tmp_path / "F")
    flip(path, start_of(2) + 5)
    with raises_user_error("damaged-file", path, f"byte {start_of(2)} of"):
        check(path, parse, measure, 100)


@pytest.mark.parametrize("left", [1, 11, 12, 20, 200])
def test_a_truncated_file_is_refused(tmp_path, left):
    path = write(tmp_path / "F")
    path.write_bytes(path.read_bytes()[:left])
    with raises_user_error("damaged-file", path):
        check(path, parse, measure, 100)


def test_an_end_of_zeros_is_refused(tmp_path):
    path = write(tmp_path / "F")
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: start_of(3)].ljust(size, b"\0"))
    with raises_user_error("damaged-file", f"byte {start_of(3)} of {size}"):
        check(path, parse, measure, 100)


def test_a_missing_file_is_refused(tmp_path):
    with raises_user_error("missing-file", tmp_path / "F"):
        check(tmp_path / "F", parse, measure, 100)


def test_an_empty_file_has_no_records(tmp_path):
    checked = check(write(tmp_path / "F", []), parse, measure, 0)
    assert (checked.stretches, checked.corrupt, checked.sums, checked.largest) == ((), 0, [], [])
