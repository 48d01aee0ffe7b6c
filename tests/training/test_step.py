# Covers: ehr_bert.objectives, ehr_bert.objectives.masked_codes, ehr_bert.objectives.prolonged_stay
import dataclasses
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from ehr_bert.examples.layout import Layout
from ehr_bert.model.pretraining import build_model
from ehr_bert.training.optimizer import build_optimizer
from ehr_bert.training.recipe import Optimizer, Phase, Recipe
from ehr_bert.training.step import build_eval_step, build_train_step
from tests.model.small import LAYOUT, SMALL, alone, random_batch
from tests.objectives.enabled import BOTH, with_weights

PLAIN = dataclasses.replace(SMALL, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
ROWS = Layout(((5, 7),), masked=9, patients=11)


def tensors(batch):
    return {name: tf.constant(values) for name, values in batch.items()}


def after_one_update(cells, layout, objectives=BOTH, config=SMALL, clip_norm=0.0, compiled=False, name="sgd"):
    """The weights after one update, by plain gradient descent by default, and the update's sums."""
    model = build_model(config, seed=1)
    optimizer = optimizer_of(name, model.trainable_variables)
    strategy = tf.distribute.get_strategy()
    step = build_train_step(
        strategy, model, optimizer, layout, len(cells), objectives, clip_norm, compiled=compiled
    )
    sums = step(iter([tensors(cell) for cell in cells]))
    assert int(optimizer.iterations) == 1
    return [variable.numpy() for variable in model.trainable_variables], {
        k: float(v) for k, v in sums.items()
    }


def optimizer_of(name, variables):
    if name != "sgd":
        phase = Phase(warmup_steps=0, learning_rate=1e-2)
        return build_optimizer(Recipe(phases=(phase,), optimizer=Optimizer(name=name)), [9], variables)
    optimizer = keras.optimizers.SGD(1.0)
    optimizer.build(variables)
    return optimizer


def assert_close(actual, expected, atol=1e-6):
    (weights, sums), (other_weights, other_sums) = actual, expected
    for value, other in zip(weights, other_weights, strict=True):
        np.testing.assert_allclose(value, other, atol=atol)
    for name, value in other_sums.items():
        assert sums[name] == pytest.approx(value, rel=1e-5), name


def two_micro_batches():
    """Two micro-batches of unequal counts, and both as one batch."""
    return with_their_whole([random_batch(seed, ROWS) for seed in (1, 2)])


def with_their_whole(cells):
    """Micro-batches, their counts made unequal, and all as one batch with its layout."""
    for number, cell in enumerate(cells):
        cell["masked_weights"][3 * number % 8 or ROWS.masked :] = 0
    totals = {
        "masked_total": np.float32(sum(cell["masked_weights"].sum() for cell in cells)),
        "patient_total": np.float32(sum(cell["patient_weights"].sum() for cell in cells)),
    }
    big = {
        name: np.concatenate([cell[name] for cell in cells])
        for name in cells[0]
        if not name.endswith("total")
    }
    for name, size in (("masked_places", ROWS.masked), ("patient_places", ROWS.patients)):
        big[name] += ROWS.positions * np.repeat(np.arange(len(cells)), size).astype(np.int32)
    layout = Layout(
        ((5 * len(cells), 7),), masked=len(cells) * ROWS.masked, patients=len(cells) * ROWS.patients
    )
    return [{**cell, **totals} for cell in cells], {**big, **totals}, layout


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_packed_patients_give_the_update_of_each_alone(pooling):
    config = dataclasses.replace(PLAIN, stay_pooling=pooling)
    batch = random_batch()
    separate, layout = alone(batch)
    expected = after_one_update([separate], layout, config=config)
    assert_close(after_one_update([batch], LAYOUT, config=config), expected)


def test_micro_batches_of_unequal_counts_make_the_update_of_the_big_batch():
    cells, big, layout = two_micro_batches()
    assert_close(after_one_update(cells, ROWS), after_one_update([big], layout))


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb"])
def test_sixty_four_micro_batches_make_the_update_of_one_huge_batch(name):
    cells, big, layout = with_their_whole([random_batch(seed, ROWS) for seed in range(64)])
    assert len({cell["masked_weights"].sum() for cell in cells}) > 5
    actual = after_one_update(cells, ROWS, clip_norm=1.0, name=name)
    assert_close(actual, after_one_update([big], layout, clip_norm=1.0, name=name), atol=1e-5)


def test_compiled_or_not_the_update_is_the_same():
    batch = random_batch()
    plain = after_one_update([batch], LAYOUT)
    assert_close(after_one_update([batch], LAYOUT, compiled=True), plain, atol=1e-5)


def test_the_losses_are_those_of_the_models_scores():
    batch = random_batch()
    _, sums = after_one_update([batch], LAYOUT, config=PLAIN)
    scores = build_model(PLAIN, seed=1)(batch, layout=LAYOUT)
    for loss, logits, labels, weights in (
        ("masked_lm_loss", "masked_lm_logits", "masked_ids", "masked_weights"),
        ("next_sentence_loss", "stay_logits", "stay_labels", "patient_weights"),
    ):
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch[labels], scores[logits])
        assert sums[loss] == pytest.approx(float(tf.reduce_sum(losses * batch[weights])), rel=1e-5)
    assert sums["real_tokens"] == (batch["patient_ids"] > 0).sum()
    assert (sums["masked_lm_count"], sums["next_sentence_count"]) == (
        batch["masked_weights"].sum(),
        batch["patient_weights"].sum(),
    )


@pytest.mark.parametrize(
    ("objectives", "untouched"),
    [(with_weights(masked_codes=0.0), "masked_codes/"), (with_weights(prolonged_stay=0.0), "stay/")],
)
def test_an_objective_that_is_off_moves_nothing_of_its_head(objectives, untouched):
    weights, sums = after_one_update([random_batch()], LAYOUT, objectives)
    before = build_model(SMALL, seed=1).trainable_variables
    for value, variable in zip(weights, before, strict=True):
        moved = np.abs(value - variable.numpy()).max() > 0
        assert moved != (untouched in variable.path) or "pooler" in variable.path, variable.path
    assert ("masked_lm_count" if untouched == "masked_codes/" else "next_sentence_count") not in sums


def test_an_objective_weighs_as_told():
    batch = random_batch()
    start = [variable.numpy() for variable in build_model(SMALL, seed=1).trainable_variables]
    gradients = [
        [
            value - after
            for value, after in zip(start, after_one_update([batch], LAYOUT, weigh)[0], strict=True)
        ]
        for weigh in (with_weights(1.0, 0.0), with_weights(0.0, 1.0), with_weights(2.0, 3.0))
    ]
    for codes, stay, both in zip(*gradients, strict=True):
        np.testing.assert_allclose(both, 2 * codes + 3 * stay, atol=1e-5)


def test_clipping_bounds_the_norm_of_the_update():
    batch = random_batch()
    start = [variable.numpy() for variable in build_model(SMALL, seed=1).trainable_variables]
    weights, sums = after_one_update([batch], LAYOUT, clip_norm=0.01)
    moved = np.sqrt(sum(np.square(a - b).sum() for a, b in zip(start, weights, strict=True)))
    assert sums["gradient_norm"] > 0.01
    assert moved == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_an_update_that_is_not_finite_is_skipped_and_counted(micro_batches):
    cells = two_micro_batches()[0][:micro_batches]
    cells[-1]["patient_weights"] = cells[-1]["patient_weights"] * np.float32("nan")
    weights, sums = after_one_update(cells, ROWS)
    assert sums["skipped"] == 1
    for value, before in zip(weights, build_model(SMALL, seed=1).trainable_variables, strict=True):
        np.testing.assert_array_equal(value, before.numpy())


def test_a_look_at_held_out_examples_ranks_codes_and_gives_risks():
    batch = random_batch()
    model = build_model(SMALL, seed=1)
    step = build_eval_step(tf.distribute.get_strategy(), model, LAYOUT, BOTH, compiled=False)
    batch_sums, sums, predictions = step(tensors(batch))
    assert float(batch_sums["patients"]) == batch["patient_weights"].sum()
    scores = {name: value.numpy() for name, value in model(batch, layout=LAYOUT).items()}
    rows = np.arange(LAYOUT.masked)
    own = scores["masked_lm_logits"][rows, batch["masked_ids"]]
    ranks = (scores["masked_lm_logits"] > own[:, None]).sum(axis=1)
    for name, top in (("correct", 1), ("top_5", 5), ("top_10", 10)):
        assert float(sums["masked_codes"][name]) == (batch["masked_weights"] * (ranks < top)).sum()
    risks = tf.nn.softmax(scores["stay_logits"])[:, 1]
    np.testing.assert_allclose(predictions["prolonged_stay"]["risks"], risks, atol=1e-6)
    np.testing.assert_array_equal(predictions["prolonged_stay"]["labels"], batch["stay_labels"])


REPLICAS = """
import sys
import keras, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from ehr_bert.model.pretraining import build_model
from ehr_bert.training.step import build_eval_step, build_train_step
from tests.model.small import SMALL
from tests.training.test_step import BOTH, ROWS, tensors, two_micro_batches

cells, big, layout = two_micro_batches()
found = []
for devices, one_cell in ((1, False), (2, False), (2, True)):
    if devices == 1:
        strategy, shape, micro, batches = tf.distribute.get_strategy(), layout, 1, [big]
    else:  # the two cells are a micro-batch each of two replicas, or twice two micro-batches of one replica
        strategy, shape, micro, batches = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), ROWS, 1, cells
    if one_cell:
        nothing = {name: np.zeros_like(v) for name, v in cells[0].items()}
        totals = {name: cells[0][name] for name in ("masked_total", "patient_total")}
        micro, batches = 2, [cells[0], {**nothing, **totals}, {**nothing, **totals}, cells[1]]
    with strategy.scope():
        model = build_model(SMALL, seed=1)
        optimizer = keras.optimizers.AdamW(1e-3)
        optimizer.build(model.trainable_variables)
    compiled = sys.argv[1] == "compiled"
    step = build_train_step(strategy, model, optimizer, shape, micro, BOTH, 0.1, compiled)
    def dataset(context):
        signature = {name: tf.TensorSpec(np.shape(v), np.asarray(v).dtype) for name, v in batches[0].items()}
        return tf.data.Dataset.from_generator(lambda: (batches * 4), output_signature=signature)
    cell_batches = iter(strategy.distribute_datasets_from_function(dataset))
    for _ in range(3):
        sums = step(cell_batches)
    look = build_eval_step(strategy, model, shape, BOTH, compiled=False)
    *_, predictions = look(next(cell_batches))
    figures = {name: float(value) for name, value in sums.items()}
    found.append((strategy.num_replicas_in_sync, figures, [v.numpy() for v in model.trainable_variables]))
    assert len(predictions["prolonged_stay"]["risks"]) == strategy.num_replicas_in_sync * shape.patients
for replicas, figures, weights in found[1:]:
    assert replicas == 2
    for name, value in found[0][1].items():
        np.testing.assert_allclose(figures[name], value, rtol=1e-4, err_msg=name)
    for value, other in zip(weights, found[0][2], strict=True):
        np.testing.assert_allclose(value, other, atol=1e-5)
print("equal")
"""


@pytest.mark.parametrize("compiled", ["plain", "compiled"])
def test_two_replicas_make_the_updates_of_one_dropout_included(compiled):
    done = subprocess.run([sys.executable, "-c", REPLICAS, compiled], capture_output=True, text=True)
    assert done.stdout.endswith("equal\n"), done.stderr
