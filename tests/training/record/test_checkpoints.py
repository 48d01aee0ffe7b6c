import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from ehr_bert.errors import UserError
from ehr_bert.model.pretraining import build_model
from ehr_bert.training.optimizer import build_optimizer
from ehr_bert.training.recipe import Recipe
from ehr_bert.training.record.checkpoints import Checkpoints, has_checkpoint, load_weights, newest_checkpoint
from tests.model.small import SMALL

CONFIG = dataclasses.replace(SMALL, num_hidden_layers=1)


def fresh(seed=1, **shape):
    """A model and its optimizer, whose slots and number of updates are as after training."""
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
    model, optimizer = fresh(seed)
    with Checkpoints(folder, model, optimizer, keep) as checkpoints:
        for step in steps:
            checkpoints.save(step, {"updates": step / 3})
    return model, optimizer


def kept(folder):
    return sorted(int(file.stem.partition("-")[2]) for file in folder.glob("*.index"))


def test_a_restored_checkpoint_brings_back_weights_optimizer_and_state(tmp_path):
    model, optimizer = saved(tmp_path)
    other = fresh(seed=2)
    with Checkpoints(tmp_path, *other, keep=5) as checkpoints:
        assert checkpoints.restore() == (7, {"updates": 7 / 3})
    for one, another in zip(values(model, optimizer), values(*other), strict=True):
        np.testing.assert_array_equal(one, another)


def test_what_is_written_is_the_model_at_the_step_whatever_it_becomes_meanwhile(tmp_path):
    model, optimizer = fresh()
    before = values(model, optimizer)
    with Checkpoints(tmp_path, model, optimizer, keep=5) as checkpoints:
        checkpoints.save(7, {})
        for variable in model.variables:
            variable.assign_add(tf.ones(variable.shape))
    Checkpoints(tmp_path, model, optimizer, keep=5).restore()
    for one, another in zip(values(model, optimizer), before, strict=True):
        np.testing.assert_array_equal(one, another)


def test_tensorflow_reads_a_checkpoint_and_finds_the_variables_by_their_names(tmp_path):
    model, _ = saved(tmp_path)
    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(tmp_path)))
    kernel = reader.get_tensor("model/encoder/block_0/attention/query/kernel")
    np.testing.assert_array_equal(kernel, model.encoder.blocks[0].attention.query.kernel.numpy())


def test_the_newest_few_are_kept_and_the_best_with_them(tmp_path):
    model, optimizer = fresh()
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
    model, optimizer = fresh()
    for steps in ((0, 1, 2, 3), (4, 5, 6)):
        with Checkpoints(tmp_path, model, optimizer, keep=1) as checkpoints:
            for step in steps:
                checkpoints.save(step, {})
                if step in (0, 2, 4):
                    checkpoints.mark(f"phase-{step}", step)
    assert kept(tmp_path) == [0, 2, 4, 6]
    assert newest_checkpoint(tmp_path / "phase-2").endswith("model.ckpt-2")


def test_weights_of_a_marked_checkpoint_are_brought_back_and_nothing_else(tmp_path):
    model, optimizer = fresh()
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


def test_leftovers_of_a_killed_writer_are_cleared_away(tmp_path):
    leftover = tmp_path / "model.ckpt-6.data-00000-of-00001.tempstate123"
    leftover.write_bytes(b"half")
    saved(tmp_path)
    assert not leftover.exists()


def test_one_of_several_workers_writes_and_all_read(tmp_path):
    model, optimizer = fresh()
    with Checkpoints(tmp_path, model, optimizer, 5, writes=False) as checkpoints:
        checkpoints.save(7, {})
        checkpoints.mark("best", 7)
    assert not list(tmp_path.iterdir())
    saved(tmp_path)
    assert Checkpoints(tmp_path, model, optimizer, 5, writes=False).restore()[0] == 7


def test_a_folder_that_can_not_be_written_is_a_user_s_fault_at_the_end(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        UserError, match=r"model.ckpt-7 can't be written: .*Not a directory \(make room and run again"
    ):
        saved(tmp_path / "file" / "D")


def test_it_is_told_at_the_next_save_already(tmp_path):
    (tmp_path / "file").write_text("")
    with Checkpoints(tmp_path / "file" / "D", *fresh(), keep=5) as checkpoints:
        checkpoints.save(7, {})
        with pytest.raises(UserError, match=r"model.ckpt-7 can't be written"):
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


def test_a_full_disk_is_told_in_one_line_and_the_checkpoint_before_is_whole(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path], capture_output=True, text=True, check=True
    )
    message = done.stdout.splitlines()[-1]
    assert message.startswith(f"checkpoint {tmp_path}/model.ckpt-7 can't be written: ")
    assert message.endswith("File too large (make room and run again: the checkpoint before it is whole)")
    assert kept(tmp_path) == [3]
    model, optimizer = fresh(seed=3)
    assert Checkpoints(tmp_path, model, optimizer, 5).restore()[1] == {"updates": 1}
    for one, another in zip(values(model, optimizer), values(*fresh(seed=1)), strict=True):
        np.testing.assert_array_equal(one, another)


@pytest.mark.parametrize("shape", [{"intermediate_size": 6}, {"num_hidden_layers": 2}])
def test_weights_of_another_shape_are_refused(tmp_path, shape):
    saved(tmp_path)
    other = build_model(dataclasses.replace(CONFIG, **shape), seed=1)
    with pytest.raises(UserError, match=r"the recipe asks for.*of the same shape"):
        load_weights(other, tmp_path)


def test_another_optimizer_s_checkpoint_is_refused(tmp_path):
    model, _ = saved(tmp_path)
    optimizer = tf.keras.optimizers.SGD(momentum=0.5)
    optimizer.build(model.trainable_variables)
    with pytest.raises(UserError, match="variables, the recipe asks for"):
        Checkpoints(tmp_path, model, optimizer, 5).restore()


@pytest.mark.parametrize("place", ["", "best", "phase-1", "model.ckpt-7"])
def test_loaded_weights_are_the_saved_ones(tmp_path, place):
    model, optimizer = fresh()
    with Checkpoints(tmp_path, model, optimizer, 5) as checkpoints:
        checkpoints.save(7, {})
        checkpoints.mark("best", 7)
        checkpoints.mark("phase-1", 7)
    other = build_model(CONFIG, seed=2)
    assert load_weights(other, tmp_path / place).endswith("model.ckpt-7")
    for ours, theirs in zip(other.trainable_variables, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_a_damaged_checkpoint_is_told(tmp_path):
    saved(tmp_path)
    index = tmp_path / "model.ckpt-7.index"
    index.write_bytes(index.read_bytes()[:10])
    with pytest.raises(UserError, match=r"model.ckpt-7 can't be read: .* \(name another checkpoint\)"):
        load_weights(build_model(CONFIG, seed=2), tmp_path)


@pytest.mark.parametrize("place", ["", "best", "phase-1", "model.ckpt-3", "nowhere"])
def test_a_place_without_a_checkpoint_is_refused(tmp_path, place):
    assert not has_checkpoint(tmp_path)
    with pytest.raises(UserError, match="holds no checkpoint"):
        newest_checkpoint(tmp_path / place)
