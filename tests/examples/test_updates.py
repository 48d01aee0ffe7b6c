# Covers: ehr_bert.examples.layout
"""The stream of updates, on packed windows of several lengths."""

import itertools
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from ehr_bert.examples import updates as module
from ehr_bert.examples.packed import PackedSettings
from ehr_bert.examples.reading import expand, open_examples
from ehr_bert.examples.source import Reading
from ehr_bert.examples.updates import BatchSize, smallest_fitting
from ehr_bert.examples.writing import write_folder
from tests.examples.patients import CLS
from tests.examples.test_writing import sequences_folder
from tests.objectives.enabled import stay_objective
from tests.user_errors import raises_user_error

SHUFFLED_TOGETHER = 11


@pytest.fixture(scope="module", autouse=True)
def _small_blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SHUFFLED_TOGETHER", SHUFFLED_TOGETHER)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    write_folder(sequences_folder(folder / "in"), folder / "out", PackedSettings(5, (16, 64)), shards=2)
    return folder / "out"


@pytest.fixture(scope="module")
def examples(folder):
    return open_examples(expand(f"{folder}/train-*"))


def updates_of(examples, micro_batch_tokens=10**6, replicas=1, seed=(3, 0), batch=None, **changes):
    return examples.updates(
        Reading(**{"max_visits": 100, "labels": (stay_objective(),)} | changes),
        batch=batch or BatchSize(patients=31),
        micro_batch_tokens=micro_batch_tokens,
        replicas=replicas,
        seed=seed,
    )


@pytest.fixture(scope="module")
def whole(examples):
    """The one cell of each of the first updates of `updates_of(examples)`."""
    return take(updates_of(examples), 45)


def take(updates, steps, first_step=0, replicas=None):
    """The cells of each of some steps."""
    cells = updates.micro_batches * len(replicas or range(updates.replicas))
    taken = updates.dataset(first_step, replicas).take(steps * cells)
    batches = [{name: values.numpy() for name, values in batch.items()} for batch in taken]
    return [batches[start : start + cells] for start in range(0, len(batches), cells)]


def windows_of(cell, layout):
    """Return the used windows of a cell, with what the model sees of each and its length."""
    collected, offset = [], 0
    masked = {
        place: (id_, 1)
        for place, id_, weight in zip(
            cell["masked_places"], cell["masked_ids"], cell["masked_weights"], strict=True
        )
        if weight
    }
    patients = {
        place: label
        for place, label, weight in zip(
            cell["patient_places"], cell["stay_labels"], cell["patient_weights"], strict=True
        )
        if weight
    }
    for count, length in layout.windows:
        for _ in range(count):
            own = slice(offset, offset + length)
            if cell["patient_ids"][own].any():
                flat = [
                    cell[name][own].tolist()
                    for name in ("token_ids", "visit_ids", "position_ids", "patient_ids", "dropout_keys")
                ]
                at = range(offset, offset + length)
                hidden = [(place - offset, *masked[place]) for place in at if place in masked]
                labels = [(place - offset, patients[place]) for place in at if place in patients]
                collected.append(str((length, flat, hidden, labels)))
            offset += length
    return collected


def unmasked(cell, layout):
    """The real tokens of each window as they were stored."""
    tokens = cell["token_ids"].copy()
    chosen = cell["masked_weights"] > 0
    tokens[cell["masked_places"][chosen]] = cell["masked_ids"][chosen]
    collected, offset = [], 0
    for count, length in layout.windows:
        for start in range(offset, offset + count * length, length):
            window = tokens[start : start + length][cell["patient_ids"][start : start + length] > 0]
            if len(window):
                collected.append((length, tuple(window.tolist())))
        offset += count * length
    return collected


def stored(files):
    parsed = [
        (int(file.name.split("-")[1]), tf.train.Example.FromString(record.numpy()))
        for file in files
        for record in tf.data.TFRecordDataset(str(file))
    ]
    return [
        (length, tuple(example.features.feature["token_ids"].int64_list.value)) for length, example in parsed
    ]


def assert_equal_steps(one, other):
    assert len(one) == len(other)
    for cell, twin in zip(itertools.chain(*one), itertools.chain(*other), strict=True):
        assert cell.keys() == twin.keys()
        for name in cell:
            np.testing.assert_array_equal(cell[name], twin[name])


@pytest.mark.parametrize(("micro_batches", "replicas"), [(2, 1), (1, 2), (3, 2)])
def test_cells_together_hold_the_same_windows_however_many_they_are(examples, whole, micro_batches, replicas):
    layout = updates_of(examples).layout
    limit = next(
        limit
        for limit in range(layout.positions, 0, -1)
        if updates_of(examples, limit, replicas).micro_batches == micro_batches
    )
    dealt = updates_of(examples, limit, replicas)
    assert dealt.layout.positions <= limit or all(count == 1 for count, _ in dealt.layout.windows)
    for (one,), cells in zip(whole[:7], take(dealt, 7), strict=True):
        together = [windows_of(cell, dealt.layout) for cell in cells]
        assert sorted(itertools.chain(*together)) == sorted(windows_of(one, layout))
        assert {cell["masked_total"] for cell in cells} == {one["masked_weights"].sum()}
        assert {cell["patient_total"] for cell in cells} == {one["patient_weights"].sum()}
        # Windows are dealt out in turn: those of one length to the first cells.
        assert max(map(len, together)) - min(map(len, together)) <= len(layout.windows)


def test_a_host_may_take_the_cells_of_its_replicas(examples):
    updates = updates_of(examples, 120, replicas=3, batch=BatchSize(patients=40))
    assert updates.micro_batches > 1
    for cells, own in zip(take(updates, 3), take(updates, 3, replicas=range(1, 3)), strict=True):
        kept = [cell for index, cell in enumerate(cells) if index % 3 in (1, 2)]
        assert_equal_steps([kept], [own])


@pytest.mark.parametrize("first", [1, 5, 40])
def test_a_stream_begun_later_goes_on_with_the_same_updates(examples, whole, first):
    assert_equal_steps(whole[first : first + 5], take(updates_of(examples), 5, first))


def test_each_epoch_holds_every_window_once_in_another_order(examples, folder):
    updates = updates_of(examples, batch=BatchSize(patients=1))
    steps = take(updates, 2 * 58)
    assert updates.updates_per_epoch == examples.info.patients == 58
    expected = Counter(stored(expand(f"{folder}/train-*")))
    epochs = [
        [window for (cell,) in steps[start : start + 58] for window in unmasked(cell, updates.layout)]
        for start in (0, 58)
    ]
    assert Counter(epochs[0]) == Counter(epochs[1]) == expected
    assert epochs[0] != epochs[1]


def test_every_epoch_masks_afresh(examples):
    updates = updates_of(examples, batch=BatchSize(patients=58))
    (one,), (other,) = take(updates, 2)
    assert sorted(unmasked(one, updates.layout)) == sorted(unmasked(other, updates.layout))
    assert set(windows_of(one, updates.layout)).isdisjoint(windows_of(other, updates.layout))


def test_an_update_may_take_more_than_an_epoch(examples, folder):
    updates = updates_of(examples, batch=BatchSize(patients=100))
    ((cell,),) = take(updates, 1)
    counts = Counter(unmasked(cell, updates.layout))
    assert set(counts) == set(stored(expand(f"{folder}/train-*")))
    assert set(counts.values()) == {1, 2}
    assert abs(cell["patient_total"] - 100) < 5


def test_batches_of_tokens_hold_so_many_on_average(examples):
    updates = updates_of(examples, batch=BatchSize(tokens=200))
    assert updates.updates_per_epoch == examples.info.real_tokens / 200
    cells = [cell for (cell,) in take(updates, 50)]
    real = np.mean([(cell["patient_ids"] > 0).sum() for cell in cells])
    assert abs(real - 200) < 20


def test_a_batch_tells_of_its_positions(examples):
    updates = updates_of(examples, labels=(stay_objective(9),))
    ((cell,),) = take(updates, 1)
    real = cell["patient_ids"] > 0
    starts = real & (cell["position_ids"] == 0)
    places = cell["patient_places"][cell["patient_weights"] > 0]
    assert sorted(places.tolist()) == np.flatnonzero(starts).tolist()
    assert (cell["token_ids"][places] == CLS).all()
    assert (cell["visit_ids"][places] == 0).all()
    assert (cell["visit_ids"][real & ~starts] > 0).all()
    for name in ("token_ids", "visit_ids", "position_ids"):
        assert not cell[name][~real].any()
    for name in ("masked_places", "masked_ids"):
        assert not cell[name][cell["masked_weights"] == 0].any()
    for name in ("patient_places", "stay_labels"):
        assert not cell[name][cell["patient_weights"] == 0].any()
    assert len(set(cell["dropout_keys"].tolist())) == len(cell["dropout_keys"])
    assert cell["dropout_keys"].min() < -(2**30)
    assert cell["dropout_keys"].max() > 2**30


def test_labels_follow_the_threshold(examples, folder):
    stays = [
        stay
        for file in expand(f"{folder}/train-*")
        for record in tf.data.TFRecordDataset(str(file))
        for stay in tf.train.Example.FromString(record.numpy())
        .features.feature["longest_stays"]
        .int64_list.value
    ]
    updates = updates_of(examples, batch=BatchSize(patients=58), labels=(stay_objective(9),))
    ((cell,),) = take(updates, 1)
    assert cell["stay_labels"].sum() == sum(stay > 9 for stay in stays) > 0


def test_visits_and_patients_are_cut_to_the_model(examples):
    updates = examples.updates(
        Reading(max_visits=3, max_seq_length=9),
        batch=BatchSize(patients=58),
        micro_batch_tokens=10**6,
        replicas=1,
        seed=(1, 0),
    )
    ((cell,),) = take(updates, 1)
    ((whole,),) = take(updates_of(examples, batch=BatchSize(patients=58), seed=(1, 0)), 1)
    kept = cell["patient_ids"] > 0
    np.testing.assert_array_equal(kept, (whole["patient_ids"] > 0) & (whole["position_ids"] < 9))
    np.testing.assert_array_equal(cell["visit_ids"][kept], np.minimum(whole["visit_ids"], 2)[kept])
    assert cell["position_ids"].max() == 8
    assert kept[cell["masked_places"][cell["masked_weights"] > 0]].all()
    assert cell["patient_total"] == 58


def test_shapes_are_static_and_told_by_the_layout(examples):
    updates = updates_of(examples, 150, replicas=2)
    layout = updates.layout
    sizes = {"masked": layout.masked, "patient": layout.patients, "stay": layout.patients}
    spec = updates.dataset().element_spec
    assert {name: tuple(tensor.shape) for name, tensor in spec.items()} == {
        name: ()
        if name.endswith("total")
        else (
            (layout.positions,)
            if name in ("token_ids", "visit_ids", "position_ids", "patient_ids", "dropout_keys")
            else (sizes[name.split("_")[0]],)
        )
        for name in spec
    }
    floats = {name for name, tensor in spec.items() if tensor.dtype == tf.float32}
    assert floats == {"masked_weights", "patient_weights", "masked_total", "patient_total"}
    assert all(tensor.dtype == tf.int32 for name, tensor in spec.items() if name not in floats)


def test_seed_and_phase_set_order_and_masking_and_the_global_seed_does_not(examples, whole):
    tf.random.set_seed(99)
    assert_equal_steps(whole[:2], take(updates_of(examples), 2))
    for seed in ((4, 0), (3, 1)):
        other = take(updates_of(examples, seed=seed), 1)
        assert not np.array_equal(whole[0][0]["token_ids"], other[0][0]["token_ids"])


def test_another_process_sees_the_same(whole, folder, tmp_path):
    code = (
        "import sys, numpy as np; from tests.examples import test_updates as t;"
        "t.module.SHUFFLED_TOGETHER = t.SHUFFLED_TOGETHER;"
        "examples = t.open_examples(t.expand(sys.argv[2] + '/train-*'));"
        "(cell,), = t.take(t.updates_of(examples), 1, 2);"
        "np.save(sys.argv[1], cell['token_ids'])"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "ids.npy"), str(folder)],
        check=True,
        cwd=Path(__file__).parents[2],
        capture_output=True,
    )
    np.testing.assert_array_equal(np.load(tmp_path / "ids.npy"), whole[2][0]["token_ids"])


@pytest.mark.parametrize(("batch_tokens", "replicas"), [(200, 2), (10**6, 3)])
def test_an_evaluation_holds_every_window_once(examples, folder, batch_tokens, replicas):
    evaluation = examples.evaluation(Reading(max_visits=100), batch_tokens=batch_tokens, replicas=replicas)
    assert evaluation.micro_batches == 1
    assert evaluation.layout.positions <= max(batch_tokens, 16 + 64)
    cells = [{name: values.numpy() for name, values in cell.items()} for cell in evaluation.dataset()]
    assert len(cells) == evaluation.steps * replicas
    windows = [window for cell in cells for window in unmasked(cell, evaluation.layout)]
    assert Counter(windows) == Counter(stored(expand(f"{folder}/train-*")))
    totals = [cell["patient_total"] for cell in cells[::replicas]]
    assert sum(totals) == 58


def test_an_evaluation_is_in_stored_order_and_always_alike(examples, folder):
    evaluation = examples.evaluation(Reading(max_visits=100), batch_tokens=1, replicas=1)
    steps = take(evaluation, evaluation.steps)
    windows = [window for (cell,) in steps for window in unmasked(cell, evaluation.layout)]
    assert sorted(windows, key=lambda window: window[0]) == sorted(
        stored(expand(f"{folder}/train-*")), key=lambda window: window[0]
    )
    assert_equal_steps(steps, take(evaluation, evaluation.steps))
    few = examples.evaluation(Reading(max_visits=100), batch_tokens=1, replicas=1, max_batches=3)
    assert few.steps == 3
    assert_equal_steps(steps[:3], [[cell] for cell in take(few, 99) for cell in cell])


@given(st.integers(1, 60), st.integers(0, 100), st.integers(1, 50))
def test_the_smallest_number_that_fits(most, limit, windows):
    def size(number):
        return -(-windows // number)

    smallest = smallest_fitting(most, limit, size)
    fitting = [number for number in range(1, most + 1) if size(number) <= max(limit, size(most))]
    assert smallest == fitting[0]


@given(st.integers(1, 10**9), st.integers(1, 10**9), st.integers(1, 10**5), st.integers(0, 10**8))
def test_quotas_stay_exact(windows, patients, batch, step):
    share = Fraction(batch, patients) * windows
    quota = module._Quota(None, share)
    assert quota.taken(step) == batch * windows * step // patients
    assert quota.taken(step + 1) - quota.taken(step) <= quota.most


def test_a_window_is_masked_alike_in_whatever_batch_of_an_evaluation(examples):
    collected = []
    for batch_tokens, replicas in ((10**6, 1), (200, 1), (150, 2)):
        reading = Reading(max_visits=100, labels=(stay_objective(),))
        updates = examples.evaluation(reading, batch_tokens=batch_tokens, replicas=replicas)
        cells = [
            cell | {"dropout_keys": 0 * cell["dropout_keys"]}
            for cell in itertools.chain(*take(updates, updates.steps))
        ]
        collected.append(Counter(window for cell in cells for window in windows_of(cell, updates.layout)))
    assert collected[0] == collected[1] == collected[2]


@pytest.mark.parametrize("values", [{}, {"patients": 3, "tokens": 4}, {"patients": 0}, {"tokens": -1}])
def test_a_batch_has_one_size(values):
    with raises_user_error("invalid-batch-size"):
        BatchSize(**values)
