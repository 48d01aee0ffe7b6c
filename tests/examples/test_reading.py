# Covers: ehr_bert.examples.packed_reading, ehr_bert.examples.source, ehr_bert.examples.tutorial_reading
import itertools
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from ehr_bert.examples.packed import PackedSettings
from ehr_bert.examples.reading import describe, examples_in, expand, open_examples
from ehr_bert.examples.sidecars import find_sidecar
from ehr_bert.examples.source import Reading
from ehr_bert.examples.tutorial import TUTORIAL, TutorialSettings
from ehr_bert.examples.updates import BatchSize
from ehr_bert.examples.writing import write_files, write_folder
from tests.examples.patients import CLS, MASK, batch_of, random_patients, vocabulary
from tests.examples.test_writing import sequences_folder
from tests.objectives.enabled import stay_objective
from tests.user_errors import raises_user_error, warning_keys

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


def evaluated(files, **reading):
    """All cells of an evaluation of the tutorial's examples, joined, and the length of their windows."""
    settings = Reading(**{"max_visits": 100, "labels": (stay_objective(),)} | reading)
    evaluation = open_examples(files).evaluation(settings, batch_tokens=500, replicas=1)
    ((windows, length),) = evaluation.layout.windows
    cells = [{name: values.numpy() for name, values in cell.items()} for cell in evaluation.dataset()]
    assert len(cells) * windows >= PATIENTS
    rows = {}
    for name in cells[0].keys() - {"masked_total", "patient_total"}:
        of_window = [cell[name].reshape(windows, -1) for cell in cells]
        rows[name] = np.concatenate(
            [w[c["patient_weights"] > 0] for w, c in zip(of_window, cells, strict=True)]
        )
    starts = np.concatenate([cell["patient_places"][cell["patient_weights"] > 0] for cell in cells])
    assert not (starts % length).any()
    rows["masked_places"] = (rows["masked_places"] - starts[:, None]) * (rows["masked_weights"] > 0)
    assert sum(cell["patient_total"] for cell in cells) == PATIENTS
    assert sum(cell["masked_total"] for cell in cells) == rows["masked_weights"].sum()
    return rows, length


def test_the_tutorials_examples_are_windows_of_one_patient_masked_as_written(files):
    rows, length = evaluated(files)
    whole = stored(files)
    assert length == whole["input_mask"].sum(axis=1).max()
    for name, of_file in (
        ("token_ids", "input_ids"),
        ("visit_ids", "segment_ids"),
        ("patient_ids", "input_mask"),
    ):
        np.testing.assert_array_equal(rows[name], whole[of_file][:, :length])
    np.testing.assert_array_equal(rows["position_ids"], np.arange(length) * whole["input_mask"][:, :length])
    for name in ("places", "ids", "weights"):
        of_file = "positions" if name == "places" else name
        np.testing.assert_array_equal(rows[f"masked_{name}"], whole[f"masked_lm_{of_file}"])
    np.testing.assert_array_equal(rows["stay_labels"][:, 0], whole["next_sentence_labels"])


def test_the_tutorials_examples_are_cut_to_a_short_window(files):
    rows, length = evaluated(files, max_seq_length=7, max_visits=3)
    whole = stored(files)
    assert length == 7
    np.testing.assert_array_equal(rows["token_ids"], whole["input_ids"][:, :7])
    np.testing.assert_array_equal(rows["visit_ids"], np.minimum(whole["segment_ids"][:, :7], 2))
    seen = (whole["masked_lm_positions"] < 7) & (whole["masked_lm_weights"] > 0)
    np.testing.assert_array_equal(rows["masked_weights"], seen)
    np.testing.assert_array_equal(rows["masked_ids"], np.where(seen, whole["masked_lm_ids"], 0))
    assert 0 < seen.sum() < whole["masked_lm_weights"].sum()


def test_an_update_of_the_tutorials_examples_holds_exactly_so_many(files):
    updates = open_examples(files).updates(
        Reading(max_visits=9), batch=BatchSize(patients=13), micro_batch_tokens=150, replicas=2, seed=(1, 0)
    )
    assert updates.micro_batches > 1
    cells = list(updates.dataset().take(9 * 2 * updates.micro_batches))
    assert {float(cell["patient_total"]) for cell in cells} == {13}
    tokens = [cell["token_ids"].numpy().reshape(-1, updates.layout.windows[0][1]) for cell in cells]
    rows = [row.tobytes() for part in tokens for row in part if row.any()]
    assert len(rows) == 9 * 13
    assert len(set(rows)) == PATIENTS == updates.updates_per_epoch * 13


@pytest.fixture
def packed(tmp_path):
    sequences = sequences_folder(tmp_path / "in")
    write_folder(sequences, tmp_path / "out", PackedSettings(5, (16, 64)), shards=2)
    return expand(f"{tmp_path}/out/train-*")


def test_packed_windows_are_described(packed):
    info = describe(packed)
    facts = [find_sidecar(file).files[file.name] for file in packed]
    assert info.kind == "packed"
    assert (
        info.examples
        == sum(file_facts.records for file_facts in facts)
        == sum(count for count, _ in info.windows)
    )
    assert [length for _, length in info.windows] == [16, 64]
    assert info.patients == 58
    assert info.real_tokens == sum(file_facts.real_tokens for file_facts in facts)
    assert info.longest == max(file_facts.longest for file_facts in facts)
    assert (info.max_seq_length, info.max_predictions_per_seq) == (64, None)
    assert (info.mask_id, info.cls_id, info.max_id) == (MASK, CLS, 305)
    assert len(info.fingerprint) == 64
    assert info.fingerprint != describe(packed[:1]).fingerprint


def test_a_damaged_window_is_skipped_with_a_warning(packed, caplog):
    before = describe(packed)
    content = bytearray(packed[-1].read_bytes())
    content[30] ^= 1
    packed[-1].write_bytes(content)
    after = describe(packed)
    assert (after.corrupt, after.examples) == (1, before.examples - 1)
    assert after.patients < before.patients
    assert warning_keys(caplog) == ["corrupt-records"]
    with raises_user_error("too-many-corrupt-records", packed[-1]):
        open_examples(packed, max_corrupt_records=0)
    evaluation = open_examples(packed).evaluation(Reading(max_visits=9), batch_tokens=300, replicas=1)
    assert sum(float(cell["patient_total"]) for cell in evaluation.dataset()) == after.patients


def test_a_file_cut_off_and_as_long_as_told_is_named(packed):
    size = packed[-1].stat().st_size
    packed[-1].write_bytes(packed[-1].read_bytes()[: size // 2].ljust(size, b"\0"))
    with raises_user_error("damaged-file", packed[-1]):
        describe(packed)


def test_packed_windows_without_their_sidecar_are_refused(packed):
    (packed[0].parent / "examples.json").unlink()
    with raises_user_error("no-examples", "examples.json"):
        describe(packed)


def test_two_kinds_are_refused(packed, files):
    with raises_user_error("mixed-kinds", "F0"):
        describe([*packed, *files[:1]])


def test_describe_merges_the_sidecars(files):
    info = describe(files)
    assert info.files == ("F0", "F1", "F2")
    assert info.examples == PATIENTS
    assert (info.max_seq_length, info.max_predictions_per_seq) == (64, 9)
    assert info.longest == stored(files)["input_mask"].sum(axis=1).max()
    assert (info.kind, info.mask_id, info.cls_id, info.max_id) == (TUTORIAL, MASK, CLS, 305)
    assert info.vocabulary == vocabulary()
    assert info.to_dict()["vocabulary_sha256"] == vocabulary().sha256


def test_describe_reads_files_that_have_no_sidecar(files, tmp_path):
    bare = write([tmp_path / "B0", tmp_path / "B1"], bare=True)
    info, described = describe(bare), describe(files)
    assert (info.kind, info.mask_id, info.cls_id, info.vocabulary) == (None, None, None, None)
    assert (
        replace(
            described,
            files=info.files,
            max_id=info.max_id,
            kind=None,
            mask_id=None,
            cls_id=None,
            vocabulary=None,
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
    with raises_user_error("vocabulary-mismatch", "A and", "B have"):
        describe(files)


def test_different_choices_are_refused(tmp_path):
    files = [*write([tmp_path / "A"]), *write([tmp_path / "B"], settings=replace(SETTINGS, med_bert=True))]
    with raises_user_error("convention-mismatch", "A and", "--med_bert"):
        describe(files)


def test_a_replaced_vocabulary_is_refused(tmp_path):
    files = write([tmp_path / "A"])
    vocabulary(302).write(tmp_path / "A.vocabulary.tsv")
    with raises_user_error("vocabulary-mismatch", "A.vocabulary.tsv"):
        describe(files)


@pytest.mark.parametrize("bare", [True, False])
def test_a_file_that_is_cut_off_is_named(tmp_path, bare):
    (file,) = write([tmp_path / "A"], bare=bare)
    file.write_bytes(file.read_bytes()[:-7])
    with raises_user_error("damaged-file", file):
        describe([file])


def test_a_file_that_is_gone_is_named(tmp_path):
    (file,) = write([tmp_path / "A"])
    file.unlink()
    with raises_user_error("damaged-file", file):
        describe([file])


@pytest.mark.parametrize("content", [None, b"no TFRecord at all"])
def test_other_files_are_refused(tmp_path, content):
    file = tmp_path / "A"
    if content:
        file.write_bytes(content)
    with raises_user_error("damaged-file" if content else "missing-file", file):
        describe([file])


def test_records_of_other_features_are_refused(tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "A")) as writer:
        writer.write(tf.train.Example().SerializeToString())
    with raises_user_error("no-examples", "A, but 1 other records"):
        describe([tmp_path / "A"])


def test_no_examples_are_refused(tmp_path):
    with raises_user_error("no-examples"):
        describe(write([tmp_path / "A"], patients=0))


def test_globs_expand_sorted_and_without_sidecars(tmp_path):
    write([tmp_path / name for name in ("F10", "F2", "G")])
    (tmp_path / "Folder").mkdir()
    matches = expand(f"{tmp_path}/G, {tmp_path}/F*")
    assert [file.name for file in matches] == ["G", "F10", "F2"]


@pytest.mark.parametrize("name", ["F[1]", "F*", "F?", "F,1", "F{1}"])
def test_a_path_that_exists_is_literal(tmp_path, name):
    write([tmp_path / other for other in ("F1", "F2", "F", name)])
    assert expand(str(tmp_path / name)) == [tmp_path / name]
    (tmp_path / "in").mkdir()
    write([tmp_path / "in" / name])
    (tmp_path / "in").rename(tmp_path / f"{name}.d")
    assert examples_in(tmp_path / f"{name}.d", "F*") == [tmp_path / f"{name}.d" / name]


@pytest.mark.parametrize("pattern", ["F*", "nothing", "A.examples.json"])
def test_a_pattern_that_matches_nothing_is_refused(tmp_path, pattern):
    write([tmp_path / "A"])
    with raises_user_error("no-examples-match"):
        expand(f"{tmp_path}/A,{tmp_path}/{pattern}")
