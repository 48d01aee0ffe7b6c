"""Mixtures of two corpora without common codes, so that the codes of a window show its corpus."""

from collections import Counter
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from ehr_bert.examples import updates as module
from ehr_bert.examples.mixture import Mixture
from ehr_bert.examples.packed import PackedSettings
from ehr_bert.examples.reading import expand, open_examples
from ehr_bert.examples.source import Reading
from ehr_bert.examples.tutorial import TutorialSettings
from ehr_bert.examples.updates import BatchSize
from ehr_bert.examples.writing import write_folder
from tests.examples.patients import FIRST_CODE, batch_of, random_patients, vocabulary
from tests.examples.test_updates import assert_equal_steps, stored, take, unmasked, windows_of
from tests.objectives.enabled import stay_objective
from tests.user_errors import raises_user_error

CODES_OF_A = 150
"""Codes of lower numbers are A's, the others B's."""

PACKED = PackedSettings(seed=5, window_lengths=(16, 64))


def corpus(folder, patients, settings=PACKED, codes=301):
    """The files of the examples of some patients."""
    for split in ("train", "valid"):
        (folder / "in" / "sequences" / split).mkdir(parents=True)
        table = pa.Table.from_batches([batch_of(patients)])
        pq.write_table(table, folder / "in" / "sequences" / split / "0.parquet")
    vocabulary(codes).write(folder / "in" / "vocabulary.tsv")
    write_folder(folder / "in", folder / "out", settings, shards=1)
    return expand(f"{folder}/out/train-*")


def patients_of_a():
    return random_patients(58, seed=1, codes=CODES_OF_A)


def patients_of_b():
    """Shorter ones, so that windows have room for more of them."""
    patients = random_patients(35, seed=2, codes=150, most_visits=2, most_codes=4)
    return [[(stay, [code + CODES_OF_A for code in codes]) for stay, codes in visits] for visits in patients]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpora")
    return {"A": corpus(folder / "A", patients_of_a()), "B": corpus(folder / "B", patients_of_b())}


@pytest.fixture(scope="module")
def corpora(files):
    return {name: open_examples(paths) for name, paths in files.items()}


def updates_of(mixture, micro_batch_tokens=10**6, replicas=1, batch=None, seed=(3, 0)):
    return mixture.updates(
        Reading(max_visits=100, labels=(stay_objective(),)),
        batch=batch or BatchSize(patients=24),
        micro_batch_tokens=micro_batch_tokens,
        replicas=replicas,
        seed=seed,
    )


@pytest.fixture(scope="module")
def mixed(corpora):
    """Updates of 6 patients of A and 18 of B on average."""
    return updates_of(Mixture(corpora, {"A": 1.0, "B": 3.0}))


@pytest.fixture(scope="module")
def steps(mixed):
    return take(mixed, 116)


def is_of_a(window):
    codes = [token for token in window if token >= FIRST_CODE]
    of_a = [code < FIRST_CODE + CODES_OF_A for code in codes]
    assert all(of_a) or not any(of_a)
    return all(of_a)


def counts(steps, name):
    """By corpus, the sum over all cells of some steps: float [K]."""
    return np.sum([cell[name] for step in steps for cell in step], axis=0)


def test_the_realised_share_is_the_one_asked_for(steps):
    patients = counts(steps, "corpus_patients")  # 12 epochs of A, and 59.7 of B
    assert patients.sum() == pytest.approx(116 * 24, rel=0.01)
    assert patients[0] / patients.sum() == pytest.approx(0.25, rel=0.01)
    by_update = np.array([counts([step], "corpus_patients") for step in steps])
    assert by_update.min() > 0


def test_whole_epochs_of_all_realise_it_exactly(corpora):
    even = updates_of(Mixture(corpora, {"A": 58.0, "B": 70.0}), batch=BatchSize(patients=64))
    assert counts(take(even, 2), "corpus_patients").tolist() == [58, 70]


def test_tokens_are_shared_out_where_the_batch_is_in_tokens(corpora):
    updates = updates_of(Mixture(corpora, {"A": 0.8, "B": 0.2}), batch=BatchSize(tokens=500))
    tokens = counts(take(updates, 100), "corpus_tokens")
    assert tokens.sum() == pytest.approx(50_000, rel=0.01)
    assert tokens[0] / tokens.sum() == pytest.approx(0.8, rel=0.01)


def test_what_is_counted_is_what_the_cells_hold(mixed, corpora):
    for updates in (mixed, updates_of(Mixture(corpora, {"A": 1.0, "B": 3.0}), 150, replicas=2)):
        for cell in (cell for step in take(updates, 5) for cell in step):
            windows = [window for _, window in unmasked(cell, updates.layout)]
            tokens = [
                sum(len(window) for window in windows if is_of_a(window) == of_a) for of_a in (True, False)
            ]
            assert cell["corpus_tokens"].tolist() == tokens
            assert cell["corpus_patients"].sum() == cell["patient_weights"].sum()


def test_each_corpus_has_epochs_of_its_own(mixed, steps, files):
    windows = [window for (cell,) in steps[:58] for window in unmasked(cell, mixed.layout)]
    of_a = [window for window in windows if is_of_a(window[1])]
    assert Counter(of_a) == Counter(6 * stored(files["A"]))
    times = Counter(window for window in windows if not is_of_a(window[1]))
    assert set(times) == set(stored(files["B"]))
    assert set(times.values()) <= {29, 30}  # 29.8 epochs


def test_a_corpus_is_read_and_masked_in_a_mixture_as_it_is_alone(mixed, steps, corpora):
    alone = updates_of(Mixture({"A": corpora["A"]}, {"A": 7.0}), batch=BatchSize(patients=6))
    for (cell,), (own,) in zip(steps, take(alone, 30), strict=False):
        assert set(windows_of(own, alone.layout)) <= set(windows_of(cell, mixed.layout))


def test_a_mixture_of_one_is_that_corpus(corpora):
    alone = corpora["B"].updates(
        Reading(max_visits=100, labels=(stay_objective(),)),
        batch=BatchSize(patients=24),
        micro_batch_tokens=99,
        replicas=1,
        seed=(3, 0),
    )
    mixture = updates_of(Mixture({"B": corpora["B"]}, {"B": 0.1}), 99)
    assert mixture.layout == alone.layout
    assert_equal_steps(take(mixture, 4), take(alone, 4))


@pytest.mark.parametrize("first", [1, 40])
def test_a_stream_begun_later_goes_on_with_the_same_updates(mixed, steps, first):
    assert_equal_steps(steps[first : first + 3], take(mixed, 3, first))


@pytest.mark.parametrize(("limit", "replicas"), [(160, 1), (160, 3)])
def test_cells_together_hold_the_same_windows_however_many_they_are(mixed, steps, corpora, limit, replicas):
    dealt = updates_of(Mixture(corpora, {"A": 1.0, "B": 3.0}), limit, replicas)
    assert dealt.micro_batches * replicas > 1
    assert dealt.layout.positions <= limit
    for (one,), cells in zip(steps[:5], take(dealt, 5), strict=True):
        together = [window for cell in cells for window in windows_of(cell, dealt.layout)]
        assert sorted(together) == sorted(windows_of(one, mixed.layout))
        assert counts([cells], "corpus_tokens").tolist() == one["corpus_tokens"].tolist()


def test_the_order_in_which_corpora_are_stated_decides_nothing(steps, corpora):
    backwards = Mixture(dict(reversed(corpora.items())), {"B": 6.0, "A": 2.0})
    assert_equal_steps(steps[:2], take(updates_of(backwards), 2))


def test_shapes_are_static_and_told_by_the_layout(mixed):
    spec = mixed.dataset().element_spec
    layout = mixed.layout
    assert layout.corpora == 2
    assert [length for _, length in layout.windows] == [16, 64]
    assert spec["corpus_patients"] == spec["corpus_tokens"] == tf.TensorSpec([2], tf.float32)
    assert spec["masked_ids"].shape == [layout.masked]
    assert spec["stay_labels"].shape == [layout.patients]


def test_an_epoch_takes_as_much_as_the_corpora_have_together(mixed, corpora):
    assert mixed.updates_per_epoch == pytest.approx((58 + 35) / 24)
    mixture = Mixture(corpora, {"A": 1.0, "B": 3.0})
    assert mixture.fractions(BatchSize(patients=24)) == {"A": Fraction(6, 58), "B": Fraction(18, 35)}


@pytest.mark.parametrize(
    ("other", "key"),
    [
        ({"codes": 302}, "vocabulary-mismatch"),
        (
            {"settings": TutorialSettings(23, 4, 0.3, 5)},
            "mixed-kinds",
        ),
    ],
)
def test_corpora_that_do_not_fit_together_are_refused(tmp_path, corpora, other, key):
    third = open_examples(corpus(tmp_path, patients_of_b(), **other))
    with raises_user_error(key, "A and C"):
        Mixture({"C": third, "A": corpora["A"]}, {"A": 1.0, "C": 1.0})


@given(
    weights=st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=4),
    batch=st.integers(1, 10**5),
    windows=st.integers(1, 10**7),
    patients=st.integers(1, 10**8),
    step=st.integers(0, 10**7),
)
def test_quotas_are_exact_for_any_weights_in_64_bits_too(weights, batch, windows, patients, step):
    for weight in weights:
        share = Fraction(weight) / sum(map(Fraction, weights))
        quota = module._Quota(None, share * batch * windows / patients)
        taken = quota.taken(step)
        assert abs(taken - step * share * batch * windows / patients) <= 1.1
        assert int(quota.taken(np.int64(step))) == taken
        assert 0 <= quota.taken(step + 1) - taken <= quota.most
