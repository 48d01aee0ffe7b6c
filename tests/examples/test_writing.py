# Covers: ehr_bert.examples.facts
import json

import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from ehr_bert.examples import writing
from ehr_bert.examples.packed import PackedSettings
from ehr_bert.examples.sidecars import Sidecar, find_sidecar
from ehr_bert.examples.tutorial import TutorialSettings
from ehr_bert.examples.writing import write_files, write_folder
from ehr_bert.vocabulary import Vocabulary
from tests.examples.patients import batch_of, random_patients, vocabulary
from tests.user_errors import raises_user_error

SETTINGS = TutorialSettings(max_seq_length=23, max_predictions_per_seq=4, masked_lm_prob=0.3, seed=5)
PATIENTS = random_patients(101)


def records(path):
    return [record.numpy() for record in tf.data.TFRecordDataset(str(path))]


def write(files, patients=PATIENTS, settings=SETTINGS, pieces=1):
    batch = batch_of(patients)
    size = -(-len(patients) // pieces)
    batches = [batch.slice(start, size) for start in range(0, len(patients), size)]
    return write_files(batches, "some.bencs.train", vocabulary(), settings, files)


def sequences_folder(folder, splits=("train", "valid", "test")):
    vocabulary().write(folder / "vocabulary.tsv")
    for seed, split in enumerate(splits):
        (folder / "sequences" / split).mkdir(parents=True)
        for part in range(2):
            table = pa.Table.from_batches([batch_of(random_patients(29, seed=10 * seed + part))])
            pq.write_table(table, folder / "sequences" / split / f"part-{part}.parquet")
    return folder


def test_fixed_length_specs_read_the_file(tmp_path):
    write([tmp_path / "F"])
    L, P = 23, 4  # noqa: N806
    parsed = tf.io.parse_example(
        records(tmp_path / "F"),
        {name: tf.io.FixedLenFeature([L], tf.int64) for name in ("input_ids", "input_mask", "segment_ids")}
        | {name: tf.io.FixedLenFeature([P], tf.int64) for name in ("masked_lm_positions", "masked_lm_ids")}
        | {
            "masked_lm_weights": tf.io.FixedLenFeature([P], tf.float32),
            "next_sentence_labels": tf.io.FixedLenFeature([1], tf.int64),
        },
    )
    real = tf.reduce_sum(parsed["input_mask"], axis=1)
    assert int(tf.reduce_max(real)) <= L
    assert bool(tf.reduce_all((parsed["segment_ids"][:, 1:] > 0) == (parsed["input_mask"][:, 1:] > 0)))
    assert set(parsed["next_sentence_labels"].numpy().ravel()) == {0, 1}


def test_examples_do_not_depend_on_the_number_of_files(tmp_path):
    write([tmp_path / "F"])
    files = [tmp_path / f"F{index}" for index in range(3)]
    write(files)
    together = records(tmp_path / "F")
    for index, file in enumerate(files):
        assert records(file) == together[index::3]


def test_files_do_not_depend_on_the_batches(tmp_path, monkeypatch):
    write([tmp_path / "F"])
    monkeypatch.setattr(writing, "PATIENTS_AT_A_TIME", 13)
    files = [tmp_path / f"F{index}" for index in range(3)]
    write(files, pieces=4)
    together = records(tmp_path / "F")
    assert [records(file) for file in files] == [together[index::3] for index in range(3)]


def test_the_bytes_depend_on_the_seed(tmp_path):
    for name, seed in (("A", 5), ("B", 5), ("C", 6)):
        write([tmp_path / name], settings=TutorialSettings(23, 4, 0.3, seed))
    assert (tmp_path / "A").read_bytes() == (tmp_path / "B").read_bytes()
    assert (tmp_path / "A").read_bytes() != (tmp_path / "C").read_bytes()


def test_sidecars_describe_each_file(tmp_path):
    files = [tmp_path / "F1", tmp_path / "F2"]
    accounts = write(files)
    for file in files:
        sidecar = Sidecar.read(tmp_path / f"{file.name}.examples.json")
        real = [
            sum(tf.train.Example.FromString(record).features.feature["input_mask"].int64_list.value)
            for record in records(file)
        ]
        facts = sidecar.files[file.name]
        assert (facts.records, facts.real_tokens, facts.longest) == (len(real), sum(real), max(real))
        assert facts.bytes == file.stat().st_size
        assert sidecar.settings == SETTINGS
        assert sidecar.accounts == {"some.bencs.train": accounts}
        assert (sidecar.mask_id, sidecar.cls_id, sidecar.vocab_size) == (4, 2, 306)
        assert Vocabulary.read(tmp_path / f"{file.name}.vocabulary.tsv").sha256 == sidecar.vocabulary_sha256
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{file.name}{end}" for file in files for end in ("", ".examples.json", ".vocabulary.tsv")
    )


def test_every_patient_is_accounted_for(tmp_path):
    accounts = write([tmp_path / "F"], patients=[*PATIENTS, [], []])
    assert accounts.patients == 103
    assert accounts.without_codes == 2
    assert accounts.written == 101
    assert accounts.examples == len(records(tmp_path / "F")) > 101
    assert "103 patients: 101 written" in str(accounts)


def test_a_refused_input_leaves_the_earlier_files(tmp_path):
    write([tmp_path / "F"])
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with raises_user_error("ids-out-of-range", 999):
        write([tmp_path / "F"], patients=[*PATIENTS, [(1, [999])]])
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_named_twice_is_refused(tmp_path):
    with raises_user_error("duplicate-output"):
        write([tmp_path / "F", tmp_path / "F"])


def test_a_folder_contains_training_and_validation_but_no_test_patients(tmp_path):
    accounts = write_folder(sequences_folder(tmp_path / "in"), tmp_path / "out", SETTINGS, shards=2)
    names = [f"{split}-0000{shard}-of-00002.tfrecord" for split in ("train", "valid") for shard in (0, 1)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        [*names, "vocabulary.tsv", "examples.json", "summary.json"]
    )
    assert {split: counts.patients for split, counts in accounts.items()} == {"train": 58, "valid": 58}
    sidecar = find_sidecar(tmp_path / "out" / names[0])
    assert list(sidecar.files) == names
    assert sidecar.accounts == accounts
    assert [sidecar.files[name].records for name in names] == [
        len(records(tmp_path / "out" / name)) for name in names
    ]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["train"]["patients"] == 58


def test_a_folder_is_replaced_by_a_new_run(tmp_path):
    sequences_folder(tmp_path / "in")
    for shards in (3, 1):
        write_folder(tmp_path / "in", tmp_path / "out", SETTINGS, shards)
    assert len(list((tmp_path / "out").glob("*.tfrecord"))) == 2


def test_a_folder_without_a_split_is_refused(tmp_path):
    sequences_folder(tmp_path / "in", splits=("train",))
    with raises_user_error("empty-folder", tmp_path / "in" / "sequences" / "valid"):
        write_folder(tmp_path / "in", tmp_path / "out", SETTINGS, 1)
    assert not (tmp_path / "out").exists()


def test_a_damaged_shard_is_named(tmp_path):
    sequences_folder(tmp_path / "in")
    (tmp_path / "in" / "sequences" / "train" / "part-1.parquet").write_bytes(b"PAR1 and no more")
    with raises_user_error("invalid-parquet", "part-1.parquet"):
        write_folder(tmp_path / "in", tmp_path / "out", SETTINGS, 1)


def test_tasks_in_any_order_give_the_same_folder(tmp_path):
    sequences_folder(tmp_path / "in")
    write_folder(tmp_path / "in", tmp_path / "a", SETTINGS, 3)
    write_folder(
        *(tmp_path / "in", tmp_path / "b", SETTINGS, 3),
        run=lambda function, tasks: [function(task) for task in tasks[::-1]][::-1],
    )
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert [(tmp_path / "a" / name).read_bytes() for name in names] == [
        (tmp_path / "b" / name).read_bytes() for name in names
    ]
    assert len(names) == 2 * 3 + 3


def test_the_examples_of_a_folder_do_not_depend_on_the_number_of_shards(tmp_path):
    sequences_folder(tmp_path / "in")
    contents = []
    for shards in (1, 3):
        write_folder(tmp_path / "in", tmp_path / "out", SETTINGS, shards)
        contents.append(
            sorted(record for path in (tmp_path / "out").glob("train*") for record in records(path))
        )
    assert contents[0] == contents[1]


def packed_folder(folder, shards=1, run=None):
    write_folder(folder / "in", folder / "out", PackedSettings(5, (16, 64)), shards, run)
    return {path.name: path.read_bytes() for path in sorted((folder / "out").iterdir())}


def test_packed_windows_of_each_length_have_separate_files(tmp_path):
    sequences_folder(tmp_path / "in")
    write_folder(tmp_path / "in", tmp_path / "out", PackedSettings(5, (16, 64, 999)), shards=2)
    names = [
        f"{split}-{length}-0000{shard}-of-00002.tfrecord"
        for split in ("train", "valid")
        for length in (16, 64)
        for shard in (0, 1)
    ]
    sidecar = Sidecar.read(tmp_path / "out" / "examples.json")
    assert list(sidecar.files) == names
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        [*names, "vocabulary.tsv", "examples.json", "summary.json"]
    )
    for name, facts in sidecar.files.items():
        windows = [
            tf.train.Example.FromString(record).features.feature
            for record in records(tmp_path / "out" / name)
        ]
        patients = [list(window["patient_lengths"].int64_list.value) for window in windows]
        assert facts.records == len(windows) > 0
        assert facts.bytes == (tmp_path / "out" / name).stat().st_size
        assert facts.window_length == int(name.split("-")[1]) >= max(map(sum, patients))
        assert facts.patients == sum(map(len, patients)) == facts.real_tokens - facts.codes
        assert facts.real_tokens == sum(map(sum, patients))
        assert facts.most_patients == max(map(len, patients))
        assert facts.longest == max(map(max, patients))
    held = sum(facts.patients for name, facts in sidecar.files.items() if name.startswith("train"))
    assert held == sidecar.accounts["train"].patients == 58


def test_packed_windows_do_not_depend_on_tasks_or_shards(tmp_path):
    sequences_folder(tmp_path / "in")
    one = packed_folder(tmp_path)
    backwards = packed_folder(tmp_path, run=lambda function, tasks: [function(t) for t in tasks[::-1]][::-1])
    assert one == backwards
    windows = sorted(record for path in (tmp_path / "out").glob("train-64-*") for record in records(path))
    packed_folder(tmp_path, shards=3)
    assert windows == sorted(
        record for path in (tmp_path / "out").glob("train-64-*") for record in records(path)
    )
