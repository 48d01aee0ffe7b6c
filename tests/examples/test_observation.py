"""Days to the end of observation and to death, from sequences to the batches of training."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from ehr_bert.examples.mixture import Mixture
from ehr_bert.examples.observation import DAYS_TO, days_after, states_observation
from ehr_bert.examples.packed import PackedFeatures, PackedSettings
from ehr_bert.examples.protobuf import serialize
from ehr_bert.examples.reading import expand, open_examples
from ehr_bert.examples.sidecars import Sidecar
from ehr_bert.examples.source import Reading
from ehr_bert.examples.updates import BatchSize
from ehr_bert.examples.windows import LongPatients, cut
from ehr_bert.examples.writing import write_folder
from tests.examples.patients import (
    FIRST_CODE,
    batch_of,
    dated_batch_of,
    days_after_visit,
    random_patients,
    some_facts,
    vocabulary,
)
from tests.examples.test_updates import take
from tests.user_errors import raises_user_error

FACTS = st.none() | st.integers(-50, 400)
STAYS_AND_CODES = st.lists(st.tuples(st.integers(-1, 60), st.integers(1, 5)), min_size=1, max_size=5)


def numbered(stays_and_codes):
    """Patients of whom every code has another id, which identifies its patient and visit."""
    patients, places, token = [], {}, FIRST_CODE
    for patient, visits in enumerate(stays_and_codes):
        patients.append([])
        for visit, (stay, codes) in enumerate(visits):
            tokens = list(range(token, token + codes))
            places |= dict.fromkeys(tokens, (patient, visit))
            patients[-1].append((stay, tokens))
            token += codes
    return patients, places


@given(
    people=st.lists(st.tuples(STAYS_AND_CODES, FACTS, FACTS), min_size=1, max_size=7),
    capacity=st.integers(1, 7),
    long_patients=st.sampled_from(LongPatients),
)
def test_days_count_from_the_last_visit_of_each_part(people, capacity, long_patients):
    patients, places = numbered([visits for visits, *_ in people])
    facts = [fact for _, *fact in people]
    batch = dated_batch_of(patients, facts)
    windows, _ = cut(batch, capacity, long_patients, False)
    days = days_after(batch, windows.last_visits)
    last_tokens = windows.tokens[np.cumsum(windows.lengths) - 1]
    for row, (patient, visit) in enumerate(places[token] for token in last_tokens.tolist()):
        for name, fact in zip(DAYS_TO, facts[patient], strict=True):
            assert days[name][row] == days_after_visit(patients[patient], visit, fact)


def test_days_are_unknown_without_the_columns_or_the_day_of_the_visit():
    batch = dated_batch_of([[(1, [5])], [(2, [6])]], [(9, 9), (9, 9)])
    undated = pa.array([[None], [None]], pa.list_(pa.date32()))
    undated_batch = batch.set_column(batch.schema.get_field_index("admit_date"), "admit_date", undated)
    of_version_01 = batch.drop_columns(list(DAYS_TO.values()))
    for part in (undated_batch, of_version_01):
        days = days_after(part, np.array([0, 1]))
        assert list(days) == list(DAYS_TO)
        assert [values.tolist() for values in days.values()] == [[-1, -1], [-1, -1]]


def test_parts_of_a_slice_are_those_of_its_patients():
    batch = dated_batch_of([[(1, [5])], [(2, [6]), (3, [7])], [(1, [8])]], [(9, 9), (100, None), (9, 9)])
    part = batch.slice(1, 2)
    windows, _ = cut(part, 1, LongPatients.SPLIT, False)
    days = days_after(part, windows.last_visits)
    assert days["days_to_observation_end"].tolist() == [98, 57, 8]
    assert days["days_to_death"].tolist() == [-1, -1, 8]


PATIENTS = random_patients(67, seed=3, most_visits=7)
KNOWN = some_facts(67, seed=4)
SETTINGS = PackedSettings(seed=5, window_lengths=(16, 24))


def sequences(folder, batches):
    """A folder of sequences with the same files in both splits."""
    vocabulary().write(folder / "vocabulary.tsv")
    for split in ("train", "valid"):
        (folder / "sequences" / split).mkdir(parents=True)
        for number, batch in enumerate(batches):
            table = pa.Table.from_batches([batch])
            pq.write_table(table, folder / "sequences" / split / f"{number}.parquet")
    return folder


def examples_of(folder, batches):
    write_folder(sequences(folder / "in", batches), folder / "out", SETTINGS, shards=2)
    return expand(f"{folder}/out/train-*")


def expected_parts(patients, facts):
    """How often each (last token, days to the end, days to death) occurs, over all parts of patients."""
    parts, _ = cut(batch_of(patients), 23, LongPatients.SPLIT, False)
    last_visits = parts.last_visits
    places = [(patient, visit) for patient, visits in enumerate(patients) for visit in range(len(visits))]
    ends = np.cumsum(parts.lengths) - 1
    return Counter(
        (int(token), *(days_after_visit(patients[patient], visit, fact) for fact in facts[patient]))
        for token, (patient, visit) in zip(
            parts.tokens[ends], (places[place] for place in last_visits), strict=True
        )
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("observation")
    undated = random_patients(31, seed=8, most_visits=2, most_codes=4)
    return {
        "A": examples_of(folder / "A", [dated_batch_of(PATIENTS, KNOWN)]),
        "B": examples_of(folder / "B", [batch_of(undated)]),
        "undated": undated,
    }


class Reported:
    """Reports the last token and the days of each patient, as an objective would."""

    def labels(self, windows):
        patients = tf.range(1, windows.patient_weights.shape[1] + 1)[:, None]  # [Y, 1]
        ids = windows.patient_ids[:, None]  # [W, 1, T]
        ends = tf.reduce_sum(tf.cast((ids > 0) & (ids <= patients), tf.int32), axis=2)  # [W, Y]
        last = tf.gather(windows.token_ids, tf.maximum(ends - 1, 0), batch_dims=1)
        return {"last_tokens": last, **{name: windows.by_patient[name] for name in DAYS_TO}}


def reported(steps):
    return Counter(
        row
        for cell in (cell for step in steps for cell in step)
        for row in zip(
            *(
                cell[name][cell["patient_weights"] > 0].tolist()
                for name in ("last_tokens", "days_to_observation_end", "days_to_death")
            ),
            strict=True,
        )
    )


READING = Reading(max_visits=100, labels=(Reported(),))


@pytest.mark.parametrize(("replicas", "tokens"), [(1, 10**6), (3, 60)])
def test_days_reach_the_labels_of_every_patient(files, replicas, tokens):
    examples = open_examples(files["A"])
    expected = expected_parts(PATIENTS, KNOWN)
    assert examples.info.observation
    assert examples.info.patients == expected.total() > 67
    updates = examples.updates(
        READING,
        batch=BatchSize(patients=examples.info.patients),
        micro_batch_tokens=tokens,
        replicas=replicas,
        seed=(1, 0),
    )
    assert (updates.micro_batches > 1) == (replicas > 1)
    steps = take(updates, 2)
    assert reported(steps[:1]) == reported(steps[1:]) == expected
    assert {cell[name].dtype for step in steps for cell in step for name in DAYS_TO} == {np.dtype(np.int32)}
    evaluation = examples.evaluation(READING, batch_tokens=tokens, replicas=replicas)
    assert reported(take(evaluation, evaluation.steps)) == expected


def test_a_mixture_has_unknown_days_for_a_corpus_without_them(files):
    corpora = {name: open_examples(files[name]) for name in ("A", "B")}
    assert not corpora["B"].info.observation
    weights = {name: float(examples.info.patients) for name, examples in corpora.items()}
    updates = Mixture(corpora, weights).updates(
        READING,
        batch=BatchSize(patients=int(sum(weights.values()))),
        micro_batch_tokens=200,
        replicas=2,
        seed=(1, 0),
    )
    unknown = expected_parts(files["undated"], [(None, None)] * 31)
    assert reported(take(updates, 1)) == expected_parts(PATIENTS, KNOWN) + unknown


def test_files_with_and_without_days_are_read_together(files):
    examples = open_examples([*files["B"], *files["A"]])
    assert examples.info.observation
    evaluation = examples.evaluation(READING, batch_tokens=500, replicas=1)
    unknown = expected_parts(files["undated"], [(None, None)] * 31)
    assert reported(take(evaluation, evaluation.steps)) == expected_parts(PATIENTS, KNOWN) + unknown


def test_days_are_unknown_for_a_patient_who_is_cut(files):
    reading = Reading(max_visits=100, labels=(Reported(),), max_seq_length=5)
    evaluation = open_examples(files["A"]).evaluation(reading, batch_tokens=10**6, replicas=1)
    ((cell,),) = take(evaluation, 1)
    parts, _ = cut(batch_of(PATIENTS), 23, LongPatients.SPLIT, False)
    days = days_after(dated_batch_of(PATIENTS, KNOWN), parts.last_visits)
    is_whole = parts.lengths + 1 <= 5
    for name, values in days.items():
        known = cell[name][(cell["patient_weights"] > 0) & (cell[name] >= 0)]
        assert sorted(known) == sorted(values[is_whole & (values >= 0)])
        assert len(known) > 0


def test_examples_without_any_date_are_those_of_version_01(tmp_path):
    nothing_known = dated_batch_of(PATIENTS, [(None, None)] * 67)
    for name, batch in {"null": nothing_known, "missing": batch_of(PATIENTS)}.items():
        examples_of(tmp_path / name, [batch])
    folders = [
        {path.name: path.read_bytes() for path in (tmp_path / name / "out").iterdir()}
        for name in ("null", "missing")
    ]
    assert folders[0] == folders[1]
    assert b"observation" not in folders[0]["examples.json"]


@pytest.mark.parametrize("known", [(3, None), (None, 3)])
def test_one_date_of_one_file_is_enough(tmp_path, known):
    facts = [(None, None)] * 66 + [known]
    of_version_01 = dated_batch_of(PATIENTS, facts).drop_columns(list(DAYS_TO.values()))
    files = examples_of(tmp_path, [of_version_01, dated_batch_of(PATIENTS, facts)])
    assert Sidecar.read(tmp_path / "out" / "examples.json").observation
    evaluation = open_examples(files).evaluation(READING, batch_tokens=500, replicas=1)
    unknown = expected_parts(PATIENTS, [(None, None)] * 67)
    assert reported(take(evaluation, evaluation.steps)) == expected_parts(PATIENTS, facts) + unknown


def test_windows_other_than_described_are_refused(files, tmp_path):
    for name, wrong in {"A": False, "B": True}.items():
        folder = tmp_path / name
        folder.mkdir()
        for path in files[name][0].parent.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        info = folder / "examples.json"
        text = info.read_text()
        info.write_text(
            text.replace('"observation": true', '"observation": false')
            if not wrong
            else text.rstrip()[:-1] + ', "observation": true}'
        )
        assert Sidecar.read(info).observation == wrong
        with raises_user_error("no-examples"):
            open_examples(expand(f"{folder}/train-*"))


def test_a_file_that_is_not_parquet_is_named(tmp_path):
    (tmp_path / "0.parquet").write_text("no")
    with raises_user_error("invalid-parquet", "0.parquet"):
        states_observation([tmp_path / "0.parquet"])


def test_an_odd_batch_of_no_patients():
    batch = dated_batch_of([[(1, [5])]], [(1, 1)]).slice(1)
    features = PackedFeatures(SETTINGS, vocabulary(), observation=True)
    assert features.by_length(batch, np.random.default_rng(0))[0] == {}


def test_negative_values_are_stored_as_such():
    features = PackedFeatures(SETTINGS, vocabulary(), observation=True)
    batch = dated_batch_of([[(1, [5])]], [(None, 0)])
    (columns,) = features.by_length(batch, np.random.default_rng(0))[0].values()
    (record,) = serialize(columns)
    stored = tf.train.Example.FromString(record).features.feature
    assert list(stored["days_to_observation_end"].int64_list.value) == [-1]
    assert list(stored["days_to_death"].int64_list.value) == [0]
