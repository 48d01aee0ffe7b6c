import dataclasses
import json
from pathlib import Path

import pytest

from ehr_bert.examples.layout import Layout
from ehr_bert.model.config import STAY_POOLINGS
from ehr_bert.model.pretraining import build_model
from ehr_bert.objectives.masked_codes import MaskedCodesSettings
from ehr_bert.objectives.prolonged_stay import ProlongedStaySettings
from ehr_bert.training.flops import training_flops
from ehr_bert.training.plan import device_flops_per_second, parameters, plan_from_recipe
from ehr_bert.training.recipe import Phase, Recipe
from tests.model import small
from tests.objectives.enabled import BOTH
from tests.user_errors import raises_user_error

RECIPES = Path(__file__).parents[2] / "pretrain" / "recipes"
SMALL = dataclasses.replace(small.SMALL, max_position_embeddings=16)


@pytest.mark.parametrize("pooling", STAY_POOLINGS)
@pytest.mark.parametrize("blocks", [1, 3])
def test_the_number_of_parameters_is_that_of_the_model(pooling, blocks):
    config = dataclasses.replace(SMALL, stay_pooling=pooling, num_hidden_layers=blocks)
    assert parameters(config) == build_model(config, seed=0).count_params()


def test_the_published_schedule_of_oubiobert_has_its_published_positions():
    plan = plan_from_recipe(Recipe.read(RECIPES / "oubiobert.toml"), devices=1)
    first, second = plan.phases
    assert first.positions == 128 * 65_536 * 7_038
    assert second.positions == 512 * 32_768 * 1_563
    assert round(first.positions / 1e9, 1) == 59.0
    assert round((first.positions + second.positions) / 1e9, 1) == 85.3
    assert (first.examples, second.examples) == (65_536 * 7_038, 32_768 * 1_563)


def test_bert_base_has_its_published_parameters():
    """`BertForPreTraining` with BERT-base's config has 110 million (Devlin et al. 2019)."""
    recipe = Recipe.read(RECIPES / "oubiobert.toml")
    config = dataclasses.replace(recipe.model, vocab_size=30_522, type_vocab_size=2)
    assert parameters(config) == 110_106_428


def test_operations_equal_those_counted_in_training():
    config = dataclasses.replace(SMALL, vocab_size=50)
    recipe = Recipe(model=config, phases=(Phase(steps=7, batch_patients=3, max_seq_length=11),))
    (work,) = plan_from_recipe(recipe, devices=1, fill=0.5).phases
    assert work.real_tokens == 7 * 3 * 11 / 2
    assert work.predictions["masked codes"] == pytest.approx(7 * 0.15 * (3 * 11 / 2 - 3))
    counts = {"masked_lm_count": work.predictions["masked codes"], "next_sentence_count": 7 * 3}
    sums = {"real_tokens": work.real_tokens, **counts}
    expected = training_flops(config, Layout(((3, 11),), 5, 3), BOTH.values(), sums)
    assert work.flops == pytest.approx(expected)


def test_objectives_that_are_not_trained_cost_nothing():
    phases = (Phase(steps=7, batch_patients=3),)
    config = dataclasses.replace(SMALL, vocab_size=50)
    both = Recipe(model=config, phases=phases)
    one = dataclasses.replace(both, objectives={"masked_codes": MaskedCodesSettings(enabled=False)})
    other = dataclasses.replace(both, objectives={"prolonged_stay": ProlongedStaySettings(enabled=False)})
    flops = [plan_from_recipe(recipe, devices=1).phases[0].flops for recipe in (both, one, other)]
    assert flops[0] > flops[2] > flops[1]
    assert plan_from_recipe(one, devices=1).phases[0].predictions.keys() == {"prolonged stay"}


def test_a_batch_in_tokens_is_converted_to_windows():
    recipe = Recipe(model=SMALL, phases=(Phase(steps=2, batch_tokens=130, max_seq_length=13),))
    for fill, windows in ((1.0, 10), (0.5, 20)):
        (work,) = plan_from_recipe(recipe, devices=1, fill=fill).phases
        assert (work.examples, work.positions, work.real_tokens) == (2 * windows, 2 * windows * 13, 2 * 130)


@pytest.mark.parametrize(("devices", "micro_batches"), [(1, 5), (2, 3), (5, 1), (9, 1)])
def test_an_update_is_shared_and_split_until_it_fits(devices, micro_batches):
    phase = Phase(steps=1, batch_patients=10, max_seq_length=13, micro_batch_tokens=2 * 13)
    (work,) = plan_from_recipe(Recipe(model=SMALL, phases=(phase,)), devices).phases
    assert work.micro_batches == micro_batches
    assert work.layout.positions <= phase.micro_batch_tokens
    assert work.positions == 10 * 13


def test_memory_grows_with_weights_and_micro_batches():
    config = dataclasses.replace(SMALL, vocab_size=50)

    def memory(precision="float32", **changes):
        phase = Phase(**({"steps": 1, "batch_patients": 8, "max_seq_length": 16} | changes))
        recipe = Recipe(model=config, phases=(phase,), precision=precision)
        return plan_from_recipe(recipe, devices=1).phases[0].memory

    count = parameters(config)
    whole, split = memory(), memory(micro_batch_tokens=64)
    assert (whole.weights, whole.gradients, whole.moments) == (4 * count, 4 * count, 8 * count)
    assert split.gradients == 8 * count
    assert split.activations < whole.activations
    assert memory(batch_patients=16).activations > whole.activations
    assert memory("bfloat16").activations < whole.activations
    assert memory("bfloat16").weights == 6 * count
    assert whole.total == whole.weights + whole.gradients + whole.moments + whole.activations


def test_epochs_need_examples():
    with raises_user_error("missing-features", "phases.1.epochs"):
        plan_from_recipe(Recipe(phases=(Phase(epochs=2.5),)), devices=1)


def test_the_speed_is_read_from_the_summary_of_another_training(tmp_path):
    file = tmp_path / "summary.json"
    file.write_text(json.dumps({"product_rate": {"flops_per_second": 4e12}, "model_flops_utilisation": 0.25}))
    assert device_flops_per_second(file) == 1e12
    file.write_text(json.dumps({"product_rate": None, "model_flops_utilisation": None}))
    with raises_user_error("no-speed", file):
        device_flops_per_second(file)
