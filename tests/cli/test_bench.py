import json
from pathlib import Path

import pytest

from ehr_bert.cli import main
from ehr_bert.launching import grid
from ehr_bert.training.recipe import Recipe
from tests.launching.trainings import RECIPE, write_inputs

RECITAL = Path(__file__).parents[2] / "pretrain" / "recipes" / "recital"


def test_the_table_is_printed_and_written_as_markdown_and_json(tmp_path, capsys, monkeypatch):
    def trainings(trials, features):
        assert features == ["A=F", "B=G"]
        for trial in trials:
            loss = {"a": 3.0, "b": 2.0}[trial.name] + trial.seed / 8
            evaluation = {"step": 9, "loss": loss, "masked_lm_loss": loss, "masked_lm_accuracy": 0.25}
            yield trial, {"seconds": 61.0, "evaluation": evaluation}

    monkeypatch.setattr(grid, "run_trials", trainings)
    recipes = [tmp_path / name for name in ("a.toml", "b.toml")]
    for recipe in recipes:
        Recipe().write(recipe)
    output = tmp_path / "G"
    arguments = [*map(str, recipes), "--features", "A=F", "B=G", "--output", str(output), "--seeds", "2"]
    assert main(["bench", *arguments]) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("training run 1 of 4: a, seed 1: loss 3.1250 after 61 s\n")
    table = (output / "results.md").read_text()
    assert printed.out == table
    assert "**2.1875 ± 0.0884**" in table
    assert json.loads((output / "results.json").read_text())["b"]["masked_lm_loss"]["mean"] == 2.1875


@pytest.mark.slow
def test_a_grid_of_real_trainings(tmp_path, capsys):
    recipe, features = write_inputs(tmp_path)
    arguments = ["bench", str(recipe), "--features", str(features), "--output", str(tmp_path / "G")]
    assert main([*arguments, "--seeds", "2"]) == 0
    assert main([*arguments, "--seeds", "2"]) == 0
    metrics = json.loads((tmp_path / "G" / "results.json").read_text())["recipe"]
    assert metrics["masked_lm_loss"]["standard_deviation"] > 0
    assert metrics["seeds"]["1"]["step"] == sum(phase.steps for phase in RECIPE.phases)
    assert (tmp_path / "G" / "recipe" / "seed-2.log").read_text().count("checkpoint: ") == 1


def test_the_recital_recipes_differ_only_in_their_phases_with_equal_updates():
    recipes = {file.stem: Recipe.read(file) for file in RECITAL.glob("*.toml")}
    assert set(recipes) == {"a", "b", "a_and_b", "a_then_b", "b_then_b", "a_and_b_then_b"}
    of_a = recipes["a"]
    for name, recipe in recipes.items():
        assert all(key.startswith("phases.") for key in of_a.differences(recipe))
        assert sum(phase.steps or 0 for phase in recipe.phases) == of_a.phases[0].steps
        assert recipe.evaluation.corpus == "B"
        corpora = ["_and_".join(phase.mixture or ()).lower() for phase in recipe.phases]
        assert "_then_".join(corpora) == name
