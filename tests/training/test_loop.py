# Covers: ehr_bert.training.interruption, ehr_bert.training.profiling, ehr_bert.training.streams
import dataclasses
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import ehr_bert.training.loop as loop
from ehr_bert.examples.layout import Layout
from ehr_bert.model.pretraining import build_model
from ehr_bert.training.evaluation import EvaluationResult
from ehr_bert.training.loop import StopReason, train
from ehr_bert.training.phases import PhasePlan
from ehr_bert.training.recipe import Checkpointing, EarlyStopping, EvaluationSettings, Phase, Recipe
from ehr_bert.training.record.checkpoints import load_weights, newest_checkpoint
from ehr_bert.training.record.folder import TrainingFolder
from ehr_bert.training.step import build_train_step
from tests.model.small import SMALL
from tests.training.streams import RandomUpdates
from tests.user_errors import raises_user_error

TINY = dataclasses.replace(SMALL, num_hidden_layers=1)
PHASES = (
    Phase(steps=5, warmup_steps=2, learning_rate=1e-2),
    Phase(steps=7, warmup_steps=1, learning_rate=3e-3, decay="cosine"),
)
RECIPE = Recipe(phases=PHASES, report_every=5, checkpoints=Checkpointing(every_steps=3))


def plans(recipe=RECIPE, **changes):
    """Return phases with different layouts and numbers of micro-batches."""
    layouts = (Layout(((5, 7),), 13, 17), Layout(((3, 7), (2, 11)), 19, 17))
    return [
        PhasePlan(RandomUpdates(number + 1, layout=layout, seed=number, **changes), phase.steps, phase)
        for number, (phase, layout) in enumerate(zip(recipe.phases, layouts, strict=False))
    ]


def trained(folder, recipe=RECIPE, evaluate=None, profile=False, **changes):
    model = build_model(TINY, seed=1)
    outcome = train(
        model,
        recipe,
        plans(recipe, **changes),
        TrainingFolder(Path(folder)),
        tf.distribute.get_strategy(),
        compiled=False,
        evaluate=evaluate,
        profile=profile,
    )
    return model, outcome


def build_quick_step(strategy, model, optimizer, layout, micro_batches, objectives, clip_norm, compiled):
    """Replace the step in tests of the loop. It needs no graph, and trains one weight."""
    bias = model.output_table()[1]

    def step(cells):
        batches = [next(cells) for _ in range(micro_batches)]
        count = sum(cell["masked_weights"].numpy().sum() for cell in batches)
        real = sum(np.sum(cell["patient_ids"] > 0) for cell in batches)
        skipped = not np.isfinite(count)
        if skipped:
            optimizer.iterations.assign_add(1)
        else:
            optimizer.apply([count * (0.1 + bias.value)], [bias])
        figures = {
            "masked_lm_loss": 2 * count,
            "masked_lm_correct": 1,
            "masked_lm_count": count,
            "patients": 1,
        }
        return {**figures, "real_tokens": real, "gradient_norm": count, "skipped": float(skipped)}

    return step


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(loop, "build_train_step", build_quick_step)


def weights(model):
    return [variable.numpy() for variable in model.variables]


def assert_equal_weights(one, other):
    for values, others in zip(weights(one), weights(other), strict=True):
        np.testing.assert_array_equal(values, others)


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def without_times(lines):
    """Return the metrics without those that depend on the clock."""
    return [{name: value for name, value in line.items() if "second" not in name} for line in lines]


def losses_by_step(losses):
    """Return an evaluator with the given losses."""

    def evaluate(step):
        return EvaluationResult(step, 7, losses[step], {})

    return evaluate


def start(program, *arguments):
    preamble = "import os, signal, sys\nfrom pathlib import Path\nfrom tests.training.test_loop import *\n"
    return subprocess.Popen(
        [sys.executable, "-c", preamble + program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_training_lowers_the_loss(tmp_path):
    phase = Phase(steps=60, warmup_steps=5, learning_rate=1e-2)
    recipe = Recipe(phases=(phase,), report_every=10)
    _, outcome = trained(tmp_path, recipe, different=1)
    assert (outcome.steps, outcome.reason, outcome.reason.exit_code) == (60, StopReason.FINISHED, 0)
    losses = [line["train/masked_lm_loss"] for line in metrics(tmp_path)]
    assert losses[-1] < 0.5 * losses[0]


def test_each_phase_is_trained_on_its_own_updates_from_their_first(quick, tmp_path, monkeypatch):
    calls = []
    dataset = RandomUpdates.dataset

    def watched(self, first_step=0, replicas=None):
        calls.append((self.micro_batches, first_step, replicas))
        return dataset(self, first_step, replicas)

    monkeypatch.setattr(RandomUpdates, "dataset", watched)
    trained(tmp_path)
    assert calls == [(1, 0, range(1)), (2, 0, range(1))]
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-9"')
    trained(tmp_path)
    assert calls[2:] == [(2, 4, range(1))]
    rates = [line["train/learning_rate"] for line in metrics(tmp_path)]
    ends = [
        1e-2 * (1 - 4 / 5),
        3e-3 * (1 + np.cos(np.pi * 3 / 6)) / 2,
        3e-3 * (1 + np.cos(np.pi * 5 / 6)) / 2,
    ]
    np.testing.assert_allclose(rates, ends, rtol=1e-4)


def test_the_checkpoint_at_the_end_of_each_phase_is_kept_and_named(quick, tmp_path):
    recipe = dataclasses.replace(RECIPE, checkpoints=Checkpointing(every_steps=1, keep=1))
    model, _ = trained(tmp_path, recipe)
    assert sorted(path.name for path in tmp_path.glob("phase-*")) == ["phase-1", "phase-2"]
    assert newest_checkpoint(tmp_path / "phase-1").endswith("model.ckpt-5")
    assert newest_checkpoint(tmp_path / "phase-2").endswith("model.ckpt-12")
    first, _ = trained(tmp_path / "first", dataclasses.replace(recipe, phases=PHASES[:1]))
    load_weights(model, tmp_path / "phase-1")
    assert_equal_weights(model, first)
    assert not list((tmp_path / "first").glob("phase-*"))


def test_a_training_that_ends_early_names_the_checkpoint_of_the_phase_that_it_was_in(quick, tmp_path):
    recipe = dataclasses.replace(
        RECIPE, evaluation=EvaluationSettings(every_steps=1), early_stopping=EarlyStopping(patience=2)
    )
    _, outcome = trained(tmp_path, recipe, lambda step: losses_by_step({step: abs(step - 6) + 1.0})(step))
    assert (outcome.reason, outcome.steps) == (StopReason.EARLY_STOP, 8)
    assert newest_checkpoint(tmp_path / "phase-1").endswith("model.ckpt-5")
    assert newest_checkpoint(tmp_path / "phase-2").endswith("model.ckpt-8")


def carrying_over(what):
    second = dataclasses.replace(PHASES[1], carry_over=what)
    return dataclasses.replace(
        RECIPE, phases=(PHASES[0], second), checkpoints=Checkpointing(every_steps=1, keep=20)
    )


@pytest.mark.parametrize("what", ["weights", "nothing"])
def test_a_phase_takes_over_what_it_states_wherever_the_process_began(quick, tmp_path, what):
    recipe = carrying_over(what)
    whole, _ = trained(tmp_path, recipe)
    for step in (4, 5, 6):  # before the second phase, at its beginning, and in it
        (tmp_path / "checkpoint").write_text(f'model_checkpoint_path: "model.ckpt-{step}"')
        again, _ = trained(tmp_path, recipe)
        assert_equal_weights(again, whole)
    alone = build_model(TINY, seed=1)
    if what == "weights":
        load_weights(alone, tmp_path / "phase-1")
    only = dataclasses.replace(recipe, phases=PHASES[1:])
    folder = TrainingFolder(tmp_path / "alone")
    train(alone, only, plans()[1:], folder, tf.distribute.get_strategy(), compiled=False)
    for one, other in zip(weights(alone), weights(whole), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_moments_are_carried_over_unless_stated(quick, tmp_path):
    carried, _ = trained(tmp_path / "carried")
    cleared, _ = trained(tmp_path / "cleared", carrying_over("weights"))
    assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(weights(carried), weights(cleared), strict=True))


def test_a_finished_training_is_not_trained_again(quick, tmp_path):
    first, _ = trained(tmp_path)
    again, outcome = trained(tmp_path)
    assert_equal_weights(again, first)
    assert outcome.reason == StopReason.FINISHED
    assert newest_checkpoint(tmp_path).endswith("model.ckpt-12")


@pytest.mark.parametrize(("last_whole", "build"), [(3, build_quick_step), (6, build_train_step)])
def test_killed_and_started_again_it_ends_with_the_same_weights_bit_for_bit(
    tmp_path, monkeypatch, last_whole, build
):
    """It is killed while the checkpoint after `last_whole` is written, in either phase."""
    monkeypatch.setattr(loop, "build_train_step", build)
    program = (
        f"loop.build_train_step = {build.__name__}\n"
        "import ehr_bert.training.record.checkpoints as checkpoints\n"
        "name = checkpoints._name\n"
        "def dying(file, steps):\n"
        f"    if steps[-1] > {last_whole}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    name(file, steps)\n"
        "checkpoints._name = dying\n"
        "trained(sys.argv[1])\n"
    )
    killed = start(program, tmp_path / "killed")
    _, errors = killed.communicate()
    assert killed.returncode == -signal.SIGKILL, errors
    assert newest_checkpoint(tmp_path / "killed").endswith(f"model.ckpt-{last_whole}")
    whole, _ = trained(tmp_path / "whole")
    again, _ = trained(tmp_path / "killed")
    assert_equal_weights(again, whole)
    assert without_times(metrics(tmp_path / "killed")) == without_times(metrics(tmp_path / "whole"))


def test_an_interrupted_training_saves_and_can_be_resumed(quick, tmp_path):
    program = (
        "loop.build_train_step = build_quick_step\n"
        "make = loop.Progress.step\n"
        "def interrupt(self, step, sums):\n"
        "    make(self, step, sums)\n"
        "    if step == 7: os.kill(os.getpid(), signal.SIGTERM)\n"
        "loop.Progress.step = interrupt\n"
        "_, outcome = trained(sys.argv[1])\n"
        "print(outcome.reason, outcome.steps)\n"
        "sys.exit(outcome.reason.exit_code)\n"
    )
    process = start(program, tmp_path / "interrupted")
    output, errors = process.communicate()
    assert process.returncode == 75, errors
    assert output == "interrupted 7\n"
    assert newest_checkpoint(tmp_path / "interrupted").endswith("model.ckpt-7")
    whole, _ = trained(tmp_path / "whole")
    again, _ = trained(tmp_path / "interrupted")
    assert_equal_weights(again, whole)
    assert without_times(metrics(tmp_path / "interrupted")) == without_times(metrics(tmp_path / "whole"))


def test_ctrl_c_stops_after_the_update_and_a_second_one_at_once(quick, tmp_path, monkeypatch):
    at = {7: 1}
    step_of_progress = loop.Progress.step

    def interrupted(self, step, sums):
        step_of_progress(self, step, sums)
        for _ in range(at.get(step, 0)):
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(loop.Progress, "step", interrupted)
    _, outcome = trained(tmp_path)
    assert (outcome.steps, outcome.reason, outcome.reason.exit_code) == (7, StopReason.INTERRUPTED, 75)
    at[8] = 2
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path)
    assert newest_checkpoint(tmp_path).endswith("model.ckpt-7")


def test_told_to_stop_before_the_first_update_it_leaves_a_checkpoint(quick, tmp_path, monkeypatch):
    monkeypatch.setattr(loop.Interruption, "signal_name", "SIGTERM")
    _, outcome = trained(tmp_path)
    assert (outcome.steps, outcome.reason.exit_code) == (0, 75)
    assert newest_checkpoint(tmp_path).endswith("model.ckpt-0")


def test_a_folder_that_can_not_be_written_is_told_before_the_first_update(quick, tmp_path):
    (tmp_path / "file").write_text("")
    with raises_user_error("cannot-write", "D/events", "is not a directory"):
        trained(tmp_path / "file" / "D")


def test_a_profile_of_some_updates_is_written_for_tensorboard(quick, tmp_path):
    trained(tmp_path, profile=True)
    assert list((tmp_path / "events").glob("plugins/profile/*/*.xplane.pb"))


def test_signals_mean_afterwards_what_they_meant_before(quick, tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    trained(tmp_path)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_checkpoints_are_made_by_minutes_too(quick, tmp_path):
    often = Checkpointing(every_steps=1000, every_minutes=1e-9, keep=20)
    trained(tmp_path, dataclasses.replace(RECIPE, checkpoints=often))
    assert len(list(tmp_path.glob("model.ckpt-*.index"))) == 12


def test_evaluations_come_by_steps_and_at_the_end(quick, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="ehr_bert")
    recipe = dataclasses.replace(RECIPE, evaluation=EvaluationSettings(every_steps=5))
    losses = {5: 3.0, 10: 2.0, 12: 2.5}
    _, outcome = trained(tmp_path, recipe, losses_by_step(losses))
    assert outcome.evaluation == losses_by_step(losses)(12)
    lines = [line for line in metrics(tmp_path) if "eval/loss" in line]
    assert {line["step"]: line["eval/loss"] for line in lines} == losses
    assert "after 10 steps, on 7 patients" in caplog.text
    assert newest_checkpoint(tmp_path / "best").endswith("model.ckpt-10")
    assert (tmp_path / "eval_results.txt").read_text() == "global_step = 12\nloss = 2.5\n"
    _, outcome = trained(tmp_path, recipe, losses_by_step(losses))
    assert outcome.evaluation == losses_by_step(losses)(12)
    assert [line for line in metrics(tmp_path) if "eval/loss" in line] == lines


def test_it_stops_early_without_a_lower_loss(quick, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="ehr_bert")
    recipe = dataclasses.replace(
        RECIPE, evaluation=EvaluationSettings(every_steps=2), early_stopping=EarlyStopping(patience=2)
    )
    losses = {2: 3.0, 4: 2.0, 6: 2.5, 8: 2.0}
    for _ in range(2):
        _, outcome = trained(tmp_path, recipe, losses_by_step(losses))
        assert (outcome.steps, outcome.reason, outcome.reason.exit_code) == (8, StopReason.EARLY_STOP, 0)
        assert outcome.evaluation is not None
        assert outcome.evaluation.global_step == 8
        assert "early stop: 2 consecutive evaluations" in caplog.text
        assert newest_checkpoint(tmp_path).endswith("model.ckpt-8")
        assert newest_checkpoint(tmp_path / "best").endswith("model.ckpt-4")
        assert [line["step"] for line in metrics(tmp_path)] == [2, 4, 5, 6, 8, 8]


def test_killed_in_an_evaluation_it_evaluates_again_and_loses_no_update(quick, tmp_path):
    recipe = dataclasses.replace(RECIPE, evaluation=EvaluationSettings(every_steps=4))
    losses = {4: 3.0, 8: 2.0, 12: 1.0}

    def failing(step):
        if step == 8:
            raise KeyboardInterrupt
        return losses_by_step(losses)(step)

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "killed", recipe, failing)
    assert newest_checkpoint(tmp_path / "killed").endswith("model.ckpt-8")
    again, _ = trained(tmp_path / "killed", recipe, losses_by_step(losses))
    whole, _ = trained(tmp_path / "whole", recipe, losses_by_step(losses))
    assert_equal_weights(again, whole)
    assert without_times(metrics(tmp_path / "killed")) == without_times(metrics(tmp_path / "whole"))


def test_updates_that_are_not_finite_are_skipped_and_counted(tmp_path):
    recipe = dataclasses.replace(RECIPE, phases=PHASES[1:])
    broken, _ = trained(tmp_path, recipe, broken=(1, 2, 5))
    lines = metrics(tmp_path)
    assert [line["train/skipped_updates"] for line in lines] == [2, 1]
    assert all(np.isfinite(line["train/masked_lm_loss"]) for line in lines)
    assert all(np.all(np.isfinite(values)) for values in weights(broken))


def test_three_in_a_row_end_the_training_and_leave_the_last_good_checkpoint(quick, tmp_path):
    with raises_user_error("not-finite", "updates 5 to 7"):
        trained(tmp_path, broken=(0, 1, 4))  # the last of the first phase, and the first two of the second
    assert newest_checkpoint(tmp_path).endswith("model.ckpt-6")
    with raises_user_error("not-finite", "updates 5 to 7"):
        trained(tmp_path, broken=(0, 1, 4))


def test_two_replicas_go_on_and_end_where_one_with_two_micro_batches_does(tmp_path):
    program = (
        "cpu = tf.config.list_physical_devices('CPU')[0]\n"
        "tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)\n"
        "recipe = dataclasses.replace(RECIPE, phases=PHASES[:1])\n"
        "one, two = tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1'])\n"
        "found = []\n"
        "for strategy, name, cells in ((one, 'one', (2, 1)), (two, 'two', (1, 2)), (two, 'two', (1, 2))):\n"
        "    with strategy.scope():\n"
        "        model = build_model(TINY, seed=1)\n"
        "    folder = TrainingFolder(Path(sys.argv[1]) / name)\n"
        "    plan = PhasePlan(RandomUpdates(*cells), 5, PHASES[0])\n"
        "    train(model, recipe, [plan], folder, strategy, compiled=False)\n"
        "    (folder.path / 'checkpoint').write_text('model_checkpoint_path: \"model.ckpt-3\"')\n"
        "    found.append(weights(model))\n"
        "for one, other, again in zip(*found, strict=True):\n"
        "    np.testing.assert_allclose(one, other, atol=1e-4)\n"
        "    np.testing.assert_array_equal(again, other)\n"
        "print('equal')\n"
    )
    done = start(program, tmp_path)
    output, errors = done.communicate()
    assert output.endswith("equal\n"), errors
