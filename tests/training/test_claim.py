import dataclasses
import logging

import pytest

from ehr_bert.training.execution import pretrain
from ehr_bert.training.recipe import Checkpointing, Recipe
from tests.training.continuing import fast_runs
from tests.training.small import CONFIG, RECIPE, request_for, with_phase, write_packed
from tests.user_errors import raises_user_error


@pytest.fixture(autouse=True, scope="module")
def no_measuring():
    with fast_runs():
        yield


def test_a_folder_with_another_training_is_refused_with_the_differing_keys(trained):
    def assert_refused(*mentioned: str, **changes) -> None:
        with raises_user_error("output-of-other-settings", trained.folder / "D", *mentioned):
            pretrain(request_for(trained.folder, **changes))

    rate = "phases.1.learning_rate is 0.01, not 0.02"
    assert_refused(rate, "recipe.toml", recipe=with_phase(learning_rate=0.02))
    other = dataclasses.replace(RECIPE, model=dataclasses.replace(CONFIG, hidden_act="relu"))
    assert_refused('model.hidden_act is "gelu", not "relu"', recipe=other)
    differing = 'phases.1.warmup_steps is 2, not none, phases.1.decay is "linear", not "cosine"'
    assert_refused(differing, recipe=with_phase(decay="cosine", warmup_steps=None))
    assert_refused("examples.json", features=[write_packed(trained.folder, 7, 17)])


def test_with_force_another_recipe_resumes_from_the_checkpoint(trained, caplog):
    caplog.set_level(logging.INFO, logger="ehr_bert")
    longer = with_phase(steps=8, learning_rate=0.02)
    assert pretrain(request_for(trained.folder, recipe=longer, force=True)).steps == 8
    assert "resuming from the checkpoint at step 6" in caplog.text
    assert Recipe.read(trained.folder / "D" / "recipe.toml").phases[0].learning_rate == 0.02


def test_settings_that_do_not_change_the_result_may_change(trained):
    changed = dataclasses.replace(
        with_phase(micro_batch_tokens=40), report_every=1, checkpoints=Checkpointing(every_steps=1)
    )
    again = pretrain(request_for(trained.folder, recipe=changed)).evaluation
    assert again.loss == pytest.approx(trained.outcome.evaluation.loss, abs=1e-4)
