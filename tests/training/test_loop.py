import dataclasses
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from ehr_bert.errors import UserError
from ehr_bert.model.pretraining import build_model
from ehr_bert.training.checkpoints import load_weights, newest_checkpoint
from ehr_bert.training.loop import train
from ehr_bert.training.recipe import Recipe
from tests.model.small import SMALL, random_batch

RECIPE = Recipe(steps=12, warmup_steps=2, learning_rate=1e-2, batch_size=13)


def batches_from(first):
    steps = tf.data.Dataset.range(first, 1000)
    every = [random_batch(seed) for seed in range(20)]
    table = {name: tf.constant(np.stack([batch[name] for batch in every])) for name in every[0]}
    return steps.map(lambda step: {name: values[step % 20] for name, values in table.items()})


def trained(folder, recipe=RECIPE, checkpoint_every=3):
    model = build_model(SMALL, seed=1)
    train(model, recipe, batches_from, folder, tf.distribute.get_strategy(), checkpoint_every, 5)
    return model


def weights(model):
    return [variable.numpy() for variable in model.variables]


def assert_equal_weights(one, other):
    for values, others in zip(one, other, strict=True):
        np.testing.assert_array_equal(values, others)


def test_training_lowers_the_loss(tmp_path):
    batch = {name: tf.constant(values) for name, values in random_batch().items()}
    model = build_model(SMALL, seed=1)
    before = model(batch)["masked_lm_logits"]
    train(
        model,
        Recipe(steps=60, warmup_steps=5, learning_rate=1e-2),
        lambda first: tf.data.Dataset.from_tensors(batch).repeat(),
        tmp_path,
        tf.distribute.get_strategy(),
        100,
        20,
    )

    def loss(logits):
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["masked_lm_ids"], logits)
        return float(tf.reduce_sum(losses * batch["masked_lm_weights"]))

    assert loss(model(batch)["masked_lm_logits"]) < 0.5 * loss(before)


def test_a_finished_training_is_not_trained_again(tmp_path):
    first = weights(trained(tmp_path))
    assert_equal_weights(weights(trained(tmp_path)), first)
    assert newest_checkpoint(tmp_path).endswith("model.ckpt-12")


def test_killed_and_started_again_it_ends_with_the_same_weights_bit_for_bit(tmp_path):
    program = (
        "import sys, os, signal; from pathlib import Path; import ehr_bert.training.loop as loop\n"
        "from tests.training.test_loop import trained\n"
        "save = loop.Checkpoints.save\n"
        "def dying(self, step):\n"
        "    if step == 9: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    save(self, step)\n"
        "loop.Checkpoints.save = dying\n"
        "trained(Path(sys.argv[1]))\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, tmp_path / "killed"], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert newest_checkpoint(tmp_path / "killed").endswith("model.ckpt-6")
    assert_equal_weights(weights(trained(tmp_path / "killed")), weights(trained(tmp_path / "whole")))


def test_reports_after_a_restart_read_as_if_it_had_run_through(tmp_path):
    trained(tmp_path)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-6"')
    trained(tmp_path)
    steps = [line.split(",")[0] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == ['{"step": 5', '{"step": 10', '{"step": 12']


@pytest.mark.parametrize("shape", [{"intermediate_size": 6}, {"num_hidden_layers": 1}])
def test_weights_of_another_shape_are_refused(tmp_path, shape):
    trained(tmp_path)
    with pytest.raises(UserError, match=r"the model config.*of the same shape"):
        load_weights(build_model(dataclasses.replace(SMALL, **shape), seed=1), tmp_path)


def test_loaded_weights_are_the_trained_ones(tmp_path):
    model, other = trained(tmp_path), build_model(SMALL, seed=2)
    load_weights(other, tmp_path)
    for ours, theirs in zip(other.trainable_variables, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no checkpoint"):
        newest_checkpoint(tmp_path)
