# Covers: ehr_bert.training.record.folder, ehr_bert.weights.checkpoint_files
import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from ehr_bert.model.pretraining import build_model
from ehr_bert.training.optimizer import build_optimizer
from ehr_bert.training.recipe import Recipe
from ehr_bert.training.record.checkpoints import Checkpoints, has_checkpoint, load_weights, newest_checkpoint
from tests.model.small import SMALL
from tests.user_errors import raises_user_error

CONFIG = dataclasses.replace(SMALL, num_hidden_layers=1)


def build_trained(seed=1, **shape):
    """Return a model and its optimizer with random moments and a number of updates, as after training."""
    model = build_model(dataclasses.replace(CONFIG, **shape), seed=seed)
    optimizer = build_optimizer(Recipe(), [10], model.trainable_variables)
    rng = np.random.default_rng(seed)
    for variable in optimizer.variables:
        value = 7 if variable is optimizer.iterations else rng.normal(size=variable.shape)
        variable.assign(np.asarray(value).astype(variable.dtype))
    return model, optimizer


def values(model, optimizer):
    return [variable.numpy() for variable in (*model.variables, *optimizer.variables)]


def saved(folder, steps=(7,), keep=5, seed=1):
    model, optimizer = build_trained(seed)
    with Checkpoints(folder, model, optimizer, keep) as checkpoints:
        for step in steps:
            checkpoints.save(step, {"updates": step / 3})
    return model, optimizer


def kept(folder):
    return sorted(int(file.stem.partition("-")[2]) for file in folder.glob("*.index"))


def test_a_restored_checkpoint_has_weights_optimizer_and_state(tmp_path):
    model, optimizer = saved(tmp_path)
    other = build_trained(seed=2)
    with Checkpoints(tmp_path, *other, keep=5) as checkpoints:
        assert checkpoints.restore() == (7, {"updates": 7 / 3})
    for one, another in zip(values(model, optimizer), values(*other), strict=True):
        np.testing.assert_array_equal(one, another)


def test_a_checkpoint_has_the_values_at_its_step_although_training_continues(tmp_path):
    model, optimizer = build_trained()
    before = values(model, optimizer)
    with Checkpoints(tmp_path, model, optimizer, keep=5) as checkpoints:
        checkpoints.save(7, {})
        for variable in model.variables:
            variable.assign_add(tf.ones(variable.shape))
    Checkpoints(tmp_path, model, optimizer, keep=5).restore()
    for one, another in zip(values(model, optimizer), before, strict=True):
        np.testing.assert_array_equal(one, another)


def test_tensorflow_reads_the_variables_of_a_checkpoint_by_name(tmp_path):
    model, _ = saved(tmp_path)
    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(tmp_path)))
    kernel = reader.get_tensor("model/encoder/block_0/attention/query/kernel")
    np.testing.assert_array_equal(kernel, model.encoder.blocks[0].attention.query.kernel.numpy())


def test_the_newest_few_and_the_best_are_kept(tmp_path):
    model, optimizer = build_trained()
    with Checkpoints(tmp_path, model, optimizer, keep=2) as checkpoints:
        for step in (1, 2, 3, 4, 5):
            checkpoints.save(step, {})
            if step == 2:
                checkpoints.mark("best", step)
    assert kept(tmp_path) == [2, 4, 5]
    assert newest_checkpoint(tmp_path / "best").endswith("model.ckpt-2")
    with Checkpoints(tmp_path, model, optimizer, keep=2) as checkpoints:
        checkpoints.save(6, {})
        checkpoints.mark("best", 6)
    assert kept(tmp_path) == [5, 6]
    assert newest_checkpoint(tmp_path / "best").endswith("model.ckpt-6")


def test_each_marked_checkpoint_is_kept_in_later_processes_too(tmp_path):
    model, optimizer = build_trained()
    for steps in ((0, 1, 2, 3), (4, 5, 6)):
        with Checkpoints(tmp_path, model, optimizer, keep=1) as checkpoints:
            for step in steps:
                checkpoints.save(step, {})
                if step in (0, 2, 4):
                    checkpoints.mark(f"phase-{step}", step)
    assert kept(tmp_path) == [0, 2, 4, 6]
    assert newest_checkpoint(tmp_path / "phase-2").endswith("model.ckpt-2")


def test_only_the_weights_of_a_marked_checkpoint_are_restored(tmp_path):
    model, optimizer = build_trained()
    first, slots = [[v.numpy() for v in part.variables] for part in (model, optimizer)]
    with Checkpoints(tmp_path, model, optimizer, keep=1) as checkpoints:
        checkpoints.save(0, {})
        checkpoints.mark("phase-0", 0)
        for variable in (*model.variables, *optimizer.variables):
            variable.assign(variable + tf.ones(variable.shape, variable.dtype))
        checkpoints.restore_weights("phase-0")
    for variable, value in zip(model.variables, first, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    for variable, value in zip(optimizer.variables, slots, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value + np.ones_like(value))


def test_temporary_files_of_a_killed_writer_are_removed(tmp_path):
    leftover = tmp_path / "model.ckpt-6.data-00000-of-00001.tempstate123"
    leftover.write_bytes(b"half")
    saved(tmp_path)
    assert not leftover.exists()


def test_one_of_several_workers_writes_and_all_read(tmp_path):
    model, optimizer = build_trained()
    with Checkpoints(tmp_path, model, optimizer, 5, writes=False) as checkpoints:
        checkpoints.save(7, {})
        checkpoints.mark("best", 7)
    assert not list(tmp_path.iterdir())
    saved(tmp_path)
    assert Checkpoints(tmp_path, model, optimizer, 5, writes=False).restore()[0] == 7


def test_an_unwritable_folder_is_a_user_error_at_the_end(tmp_path):
    (tmp_path / "file").write_text("")
    with raises_user_error("cannot-write", "model.ckpt-7", "Not a directory"):
        saved(tmp_path / "file" / "D")


def test_an_unwritable_folder_is_reported_at_the_next_save(tmp_path):
    (tmp_path / "file").write_text("")
    with Checkpoints(tmp_path / "file" / "D", *build_trained(), keep=5) as checkpoints:
        checkpoints.save(7, {})
        with raises_user_error("cannot-write", "model.ckpt-7"):
            checkpoints.save(8, {})


FULL_DISK = """
import resource, sys
from pathlib import Path
from ehr_bert.errors import UserError
from tests.training.record.test_checkpoints import saved
saved(Path(sys.argv[1]), steps=(3,))
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    saved(Path(sys.argv[1]), steps=(7,), seed=2)
except UserError as error:
    print(error)
"""


def test_a_full_disk_is_reported_and_the_previous_checkpoint_stays_valid(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path], capture_output=True, text=True, check=True
    )
    message = done.stdout.splitlines()[-1]
    assert message.startswith(f"checkpoint {tmp_path}/model.ckpt-7 ")
    assert "File too large" in message
    assert message.endswith("[cannot-write]")
    assert kept(tmp_path) == [3]
    model, optimizer = build_trained(seed=3)
    assert Checkpoints(tmp_path, model, optimizer, 5).restore()[1] == {"updates": 1}
    for one, another in zip(values(model, optimizer), values(*build_trained(seed=1)), strict=True):
        np.testing.assert_array_equal(one, another)


@pytest.mark.parametrize("shape", [{"intermediate_size": 6}, {"num_hidden_layers": 2}])
def test_weights_of_another_shape_are_refused(tmp_path, shape):
    saved(tmp_path)
    other = build_model(dataclasses.replace(CONFIG, **shape), seed=1)
    with raises_user_error("checkpoint-mismatch", "model.ckpt-7"):
        load_weights(other, tmp_path)


def test_the_checkpoint_of_another_optimizer_is_refused(tmp_path):
    model, _ = saved(tmp_path)
    optimizer = tf.keras.optimizers.SGD(momentum=0.5)
    optimizer.build(model.trainable_variables)
    with raises_user_error("checkpoint-mismatch", "model.ckpt-7"):
        Checkpoints(tmp_path, model, optimizer, 5).restore()


@pytest.mark.parametrize("place", ["", "best", "phase-1", "model.ckpt-7"])
def test_loaded_weights_equal_the_saved_ones(tmp_path, place):
    model, optimizer = build_trained()
    with Checkpoints(tmp_path, model, optimizer, 5) as checkpoints:
        checkpoints.save(7, {})
        checkpoints.mark("best", 7)
        checkpoints.mark("phase-1", 7)
    other = build_model(CONFIG, seed=2)
    assert load_weights(other, tmp_path / place).endswith("model.ckpt-7")
    for ours, theirs in zip(other.trainable_variables, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_a_damaged_checkpoint_is_refused(tmp_path):
    saved(tmp_path)
    index = tmp_path / "model.ckpt-7.index"
    index.write_bytes(index.read_bytes()[:10])
    with raises_user_error("unreadable-checkpoint", "model.ckpt-7"):
        load_weights(build_model(CONFIG, seed=2), tmp_path)


@pytest.mark.parametrize("place", ["", "best", "phase-1", "model.ckpt-3", "nowhere"])
def test_a_place_without_a_checkpoint_is_refused(tmp_path, place):
    assert not has_checkpoint(tmp_path)
    with raises_user_error("no-checkpoint", tmp_path / place):
        newest_checkpoint(tmp_path / place)


@pytest.mark.parametrize("name", ["run[1]", "run*", "run?", "a\\b"])
def test_the_path_of_a_training_folder_is_literal(tmp_path, name):
    for folder in (name, "run1"):
        (tmp_path / folder).mkdir()
    saved(tmp_path / "run1", steps=(3,))
    assert not has_checkpoint(tmp_path / name)
    model, optimizer = build_trained()
    with Checkpoints(tmp_path / name, model, optimizer, keep=1) as checkpoints:
        checkpoints.save(7, {})
        checkpoints.mark("best", 7)
        checkpoints.save(8, {})
    assert newest_checkpoint(tmp_path / name) == str(tmp_path / name / "model.ckpt-8")
    assert newest_checkpoint(tmp_path / name / "best") == str(tmp_path / name / "model.ckpt-7")
    assert kept(tmp_path / name) == [7, 8]
