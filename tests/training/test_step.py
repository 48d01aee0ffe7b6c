import subprocess
import sys

REPLICAS = """
import dataclasses
import numpy as np
import tensorflow as tf
from ehr_bert.model.pretraining import build_model
from ehr_bert.training.optimizer import build_optimizer
from ehr_bert.training.recipe import Recipe
from ehr_bert.training.step import build_eval_step, build_train_step
from tests.model.small import SMALL, random_batch

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
config = dataclasses.replace(SMALL, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
recipe = Recipe(steps=100, warmup_steps=0, learning_rate=1e-3)
batch = {name: values[:12] for name, values in random_batch().items()}
batch["masked_lm_weights"][:6, 1:] = 0  # the replicas get unequal counts
found = []
for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
    with strategy.scope():
        model = build_model(config, seed=1)
        optimizer = build_optimizer(recipe, model.trainable_variables)
    step = build_train_step(strategy, model, optimizer, clip_norm=0.1)
    dataset = tf.data.Dataset.from_tensor_slices(batch).batch(12).repeat(3)
    for each in strategy.experimental_distribute_dataset(dataset):
        sums = step(each)
    eval_sums, risks = build_eval_step(strategy, model)(each)
    figures = {name: value.numpy() for name, value in {**sums, "risks": risks, **eval_sums}.items()}
    found.append((strategy.num_replicas_in_sync, figures, [v.numpy() for v in model.trainable_variables]))
(one, figures, weights), (two, other_figures, other_weights) = found
assert (one, two) == (1, 2)
for name, value in figures.items():
    np.testing.assert_allclose(other_figures[name], value, rtol=1e-4, err_msg=name)
for value, other in zip(weights, other_weights, strict=True):
    np.testing.assert_allclose(other, value, atol=1e-5)
print("equal")
"""


def test_two_replicas_make_the_updates_and_figures_of_one():
    done = subprocess.run([sys.executable, "-c", REPLICAS], capture_output=True, text=True)
    assert done.stdout.endswith("equal\n"), done.stderr
