import itertools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ehr_bert.errors import UserError
from ehr_bert.examples.reading import describe, evaluation_batches, expand, training_batches
from ehr_bert.examples.tutorial import KIND, TutorialSettings
from ehr_bert.examples.writing import write_files
from tests.examples.patients import CLS, MASK, batch_of, random_patients, vocabulary

SETTINGS = TutorialSettings(max_seq_length=64, max_predictions_per_seq=9, masked_lm_prob=0.3, seed=5)
PATIENTS = 101


def write(files, patients=PATIENTS, settings=SETTINGS, words=None, bare=False):
    write_files([batch_of(random_patients(patients))], "x", words or vocabulary(), settings, files)
    if bare:
        for file, name in itertools.product(files, ("examples.json", "vocabulary.tsv")):
            file.with_name(f"{file.name}.{name}").unlink()
    return files


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    return write([folder / f"F{index}" for index in range(3)])


def stream(files, start_step=0, steps=20, **changes):
    settings = {
        "examples": PATIENTS,
        "batch_size": 13,
        "max_seq_length": 7,
        "max_predictions_per_seq": 2,
        "max_visits": 4,
        "seed": 3,
        "shuffle_buffer": 17,
    } | changes
    batches = training_batches(files, start_step=start_step, **settings)
    return [{name: t.numpy() for name, t in batch.items()} for batch in batches.take(steps)]


def evaluation(files, **changes):
    settings = {
        "batch_size": 13,
        "max_seq_length": 64,
        "max_predictions_per_seq": 9,
        "max_visits": 100,
        "max_steps": 1000,
    } | changes
    return [{n: t.numpy() for n, t in batch.items()} for batch in evaluation_batches(files, **settings)]


def joined(batches, name):
    return np.concatenate([batch[name] for batch in batches])


def stored(files):
    """The examples as another parser reads them."""
    specs = {
        name: tf.io.FixedLenFeature([64], tf.int64) for name in ("input_ids", "input_mask", "segment_ids")
    }
    specs |= {name: tf.io.FixedLenFeature([9], tf.int64) for name in ("masked_lm_positions", "masked_lm_ids")}
    specs |= {"masked_lm_weights": tf.io.FixedLenFeature([9], tf.float32)}
    specs |= {"next_sentence_labels": tf.io.FixedLenFeature([], tf.int64)}
    records = [record.numpy() for record in tf.data.TFRecordDataset([str(file) for file in files])]
    return {name: values.numpy() for name, values in tf.io.parse_example(records, specs).items()}


def assert_equal_batches(one, other):
    assert len(one) == len(other)
    for batch, twin in zip(one, other, strict=True):
        assert batch.keys() == twin.keys()
        for name in batch:
            np.testing.assert_array_equal(batch[name], twin[name])


def test_evaluation_gives_the_stored_examples_once_in_order(files):
    batches = evaluation(files)
    assert len(batches) == 8
    for name, values in stored(files).items():
        np.testing.assert_array_equal(joined(batches, name)[:PATIENTS], values)


def test_the_last_evaluation_batch_is_filled_with_rows_of_no_weight(files):
    batches = evaluation(files)
    weights = joined(batches, "example_weight")
    assert weights.tolist() == [1] * PATIENTS + [0] * 3
    last = batches[-1]
    assert not any(last[name][-3:].any() for name in last)


def test_evaluation_stops_after_max_steps(files):
    assert_equal_batches(evaluation(files, max_steps=2), evaluation(files)[:2])


def test_a_batch_has_fixed_shapes_and_types(files):
    for dataset in (
        training_batches(
            files,
            examples=PATIENTS,
            batch_size=13,
            max_seq_length=7,
            max_predictions_per_seq=2,
            max_visits=4,
            seed=1,
        ),
        evaluation_batches(
            files, batch_size=13, max_seq_length=7, max_predictions_per_seq=2, max_visits=4, max_steps=1
        ),
    ):
        shapes = {name: (tuple(spec.shape), spec.dtype) for name, spec in dataset.element_spec.items()}
        assert shapes == {
            "input_ids": ((13, 7), tf.int32),
            "input_mask": ((13, 7), tf.int32),
            "segment_ids": ((13, 7), tf.int32),
            "masked_lm_positions": ((13, 2), tf.int32),
            "masked_lm_ids": ((13, 2), tf.int32),
            "masked_lm_weights": ((13, 2), tf.float32),
            "next_sentence_labels": ((13,), tf.int32),
            "example_weight": ((13,), tf.float32),
        }


def test_short_examples_are_padded_to_a_long_window(files):
    batches = evaluation(files, max_seq_length=512, max_predictions_per_seq=77)
    for name, values in stored(files).items():
        read = joined(batches, name)[:PATIENTS]
        if values.ndim == 2:
            np.testing.assert_array_equal(read[:, : values.shape[1]], values)
            assert not read[:, values.shape[1] :].any()


def test_long_examples_are_cut_to_a_short_window(files):
    batches = evaluation(files, max_seq_length=7, max_predictions_per_seq=5, max_visits=3)
    whole = stored(files)
    np.testing.assert_array_equal(joined(batches, "input_ids")[:PATIENTS], whole["input_ids"][:, :7])
    segments = joined(batches, "segment_ids")[:PATIENTS]
    np.testing.assert_array_equal(segments, np.minimum(whole["segment_ids"][:, :7], 2))
    seen = (whole["masked_lm_positions"] < 7)[:, :5]
    for name in ("masked_lm_positions", "masked_lm_ids", "masked_lm_weights"):
        expected = np.where(seen, whole[name][:, :5], 0)
        np.testing.assert_array_equal(joined(batches, name)[:PATIENTS], expected)
    assert 0 < joined(batches, "masked_lm_weights").sum() < whole["masked_lm_weights"].sum()


def test_a_stream_started_later_goes_on_with_the_same_batches(files):
    whole = stream(files, steps=20)  # 13 x 20 = 260 examples: epochs end inside batches 7 and 15
    for start in (1, 7, 8, 15, 16):
        assert_equal_batches(stream(files, start_step=start, steps=20 - start), whole[start:])


def test_each_epoch_holds_every_example_once_in_another_order(files):
    sizes = {"max_seq_length": 64, "max_predictions_per_seq": 9, "max_visits": 100}
    ids = joined(stream(files, steps=101, batch_size=3, **sizes), "input_ids")
    epochs = [
        [row.tobytes() for row in ids[start : start + PATIENTS]] for start in (0, PATIENTS, 2 * PATIENTS)
    ]
    stored_ids = stored(files)["input_ids"].astype(np.int32)
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(row.tobytes() for row in stored_ids)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_the_seed_sets_the_order(files):
    assert not np.array_equal(
        joined(stream(files, seed=3), "input_ids"), joined(stream(files, seed=4), "input_ids")
    )


def test_the_global_seed_does_not_matter(files):
    before = stream(files)
    tf.random.set_seed(99)
    assert_equal_batches(stream(files), before)


def test_another_process_sees_the_same_order(files, tmp_path):
    code = (
        "import sys; import numpy as np; from pathlib import Path;"
        "from tests.examples.test_reading import joined, stream;"
        "np.save(sys.argv[1], joined(stream([Path(file) for file in sys.argv[2:]]), 'input_ids'))"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "ids.npy"), *map(str, files)],
        check=True,
        cwd=Path(__file__).parents[2],
        capture_output=True,
    )
    np.testing.assert_array_equal(np.load(tmp_path / "ids.npy"), joined(stream(files), "input_ids"))


def test_training_rows_all_have_weight(files):
    assert joined(stream(files), "example_weight").tolist() == [1] * 260


def test_describe_merges_the_sidecars(files):
    info = describe(files)
    assert info.files == ("F0", "F1", "F2")
    assert info.examples == PATIENTS
    assert (info.max_seq_length, info.max_predictions_per_seq) == (64, 9)
    assert info.longest == stored(files)["input_mask"].sum(axis=1).max()
    assert (info.kind, info.mask_id, info.cls_id, info.max_id) == (KIND, MASK, CLS, 305)
    assert info.vocabulary == vocabulary()
    assert info.to_dict()["vocabulary_sha256"] == vocabulary().sha256


def test_describe_reads_files_that_have_no_sidecar(files, tmp_path):
    bare = write([tmp_path / "B0", tmp_path / "B1"], bare=True)
    info, told = describe(bare), describe(files)
    assert (info.kind, info.mask_id, info.cls_id, info.vocabulary) == (None, None, None, None)
    assert (
        replace(
            told, files=info.files, max_id=info.max_id, kind=None, mask_id=None, cls_id=None, vocabulary=None
        )
        == info
    )
    whole = stored(files)
    assert info.max_id == max(whole["input_ids"].max(), whole["masked_lm_ids"].max())


def test_what_only_some_files_tell_is_unknown(files, tmp_path):
    info = describe([*files, *write([tmp_path / "B"], bare=True)])
    assert info.examples == 2 * PATIENTS
    assert (info.kind, info.cls_id) == (None, None)


def test_different_vocabularies_are_refused(tmp_path):
    files = [*write([tmp_path / "A"]), *write([tmp_path / "B"], words=vocabulary(302))]
    with pytest.raises(UserError, match=r"A and .*B were made with different vocabularies"):
        describe(files)


def test_different_choices_are_refused(tmp_path):
    files = [*write([tmp_path / "A"]), *write([tmp_path / "B"], settings=replace(SETTINGS, med_bert=True))]
    with pytest.raises(UserError, match=r"A and .*B was made with Med-BERT's"):
        describe(files)


def test_a_replaced_vocabulary_is_refused(tmp_path):
    files = write([tmp_path / "A"])
    vocabulary(302).write(tmp_path / "A.vocabulary.tsv")
    with pytest.raises(UserError, match=r"A\.vocabulary\.tsv is not the vocabulary"):
        describe(files)


@pytest.mark.parametrize("bare", [True, False])
def test_a_file_that_is_cut_off_is_named(tmp_path, bare):
    (file,) = write([tmp_path / "A"], bare=bare)
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(UserError, match=r"A is .*cut off"):
        describe([file])


def test_a_file_that_is_gone_is_named(tmp_path):
    (file,) = write([tmp_path / "A"])
    file.unlink()
    with pytest.raises(UserError, match="A is missing"):
        describe([file])


@pytest.mark.parametrize("content", [None, b"no TFRecord at all"])
def test_other_files_are_refused(tmp_path, content):
    file = tmp_path / "A"
    if content:
        file.write_bytes(content)
    with pytest.raises(UserError, match="no TFRecord file of examples"):
        describe([file])


def test_records_of_other_features_are_refused(tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "A")) as writer:
        writer.write(tf.train.Example().SerializeToString())
    with pytest.raises(UserError, match="A holds records without input_ids"):
        describe([tmp_path / "A"])


def test_no_examples_are_refused(tmp_path):
    with pytest.raises(UserError, match="no examples in"):
        describe(write([tmp_path / "A"], patients=0))


def test_globs_expand_sorted_and_without_sidecars(tmp_path):
    write([tmp_path / name for name in ("F10", "F2", "G")])
    (tmp_path / "Folder").mkdir()
    found = expand(f"{tmp_path}/G, {tmp_path}/F*")
    assert [file.name for file in found] == ["G", "F10", "F2"]


@pytest.mark.parametrize("pattern", ["F*", "nothing", "A.examples.json"])
def test_a_pattern_that_matches_nothing_is_refused(tmp_path, pattern):
    write([tmp_path / "A"])
    with pytest.raises(UserError, match="no file of examples matches"):
        expand(f"{tmp_path}/A,{tmp_path}/{pattern}")
