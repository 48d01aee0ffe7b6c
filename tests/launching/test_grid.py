# Covers: ehr_bert.launching.command
import sys
from pathlib import Path

import pytest

from ehr_bert.launching import grid
from ehr_bert.launching.grid import Trial, plan_trials, run_trials
from ehr_bert.training.recipe import Phase, Recipe
from tests.user_errors import raises_user_error

TRAINING = """
import json, sys
from pathlib import Path

folder, seed, status = Path(sys.argv[1]), int(sys.argv[2]), Path("status")
folder.mkdir(exist_ok=True)
with open("trained", "a") as file:
    print(folder.parent.name, seed, file=file)
print("Traceback: all that went before\\nehr-bert pretrain: the disk is full")
if status.exists():
    sys.exit(int(status.read_text()))
(folder / "summary.json").write_text(json.dumps({"reason": "finished", "evaluation": {"loss": seed / 2}}))
"""


def training_command(recipe: Path, features, folder: Path, *flags: str) -> list[str]:
    """Replace a training: record the call, then finish or exit with the status in the file `status`."""
    assert Recipe.read(recipe)
    assert (features, flags[0]) == (["A=F"], "--seed")
    return [sys.executable, "-c", TRAINING, str(folder), flags[1]]


@pytest.fixture(autouse=True)
def without_tensorflow(monkeypatch, tmp_path):
    monkeypatch.setattr(grid, "pretrain_command", training_command)
    monkeypatch.chdir(tmp_path)


def write_recipes(**steps: int) -> list[Path]:
    for name, count in steps.items():
        Recipe(phases=(Phase(steps=count),)).write(Path(f"{name}.toml"))
    return [Path(f"{name}.toml") for name in steps]


def trained() -> list[str]:
    file = Path("trained")
    return file.read_text().splitlines() if file.exists() else []


def test_all_recipes_are_trained_with_one_seed_before_the_next():
    trials = plan_trials(write_recipes(b=2, a=3), 2, Path("G"))
    results = list(run_trials(trials, ["A=F"]))
    assert trained() == ["b 1", "a 1", "b 2", "a 2"]
    assert [trial for trial, _ in results] == trials
    assert [summary["evaluation"]["loss"] for _, summary in results] == [0.5, 0.5, 1.0, 1.0]
    assert trials[2] == Trial("b", 2, Path("G/b/seed-2"))
    assert "the disk is full" in Path("G/b/seed-2.log").read_text()


def test_only_incomplete_trainings_are_run_again():
    trials = plan_trials(write_recipes(a=3, b=2), 2, Path("G"))
    running = run_trials(trials, ["A=F"])
    next(running), next(running), next(running)
    Path("status").write_text("1")
    with raises_user_error("training-failed", "status 1", "the disk is full", Path("G/b/seed-2.log")):
        next(running)
    Path("status").unlink()
    assert len(list(run_trials(plan_trials(write_recipes(a=3, b=2), 2, Path("G")), ["A=F"]))) == 4
    assert trained() == ["a 1", "b 1", "a 2", "b 2", "b 2"]


def test_seeds_are_added_to_existing_trainings():
    for seeds in (1, 3):
        list(run_trials(plan_trials(write_recipes(a=3), seeds, Path("G")), ["A=F"]))
    assert trained() == ["a 1", "a 2", "a 3"]


def test_an_interrupted_grid_exits_with_the_same_status():
    Path("status").write_text("75")
    with pytest.raises(SystemExit) as end:
        list(run_trials(plan_trials(write_recipes(a=3), 1, Path("G")), ["A=F"]))
    assert end.value.code == 75


@pytest.mark.parametrize("summary", ['{"reason": "interrupted", "evaluation": null}', "{}"])
def test_an_interrupted_training_is_not_complete(tmp_path, summary):
    trial = Trial("a", 1, tmp_path)
    assert trial.summary() is None
    (tmp_path / "summary.json").write_text(summary)
    assert trial.summary() is None


def test_trainings_of_another_recipe_are_refused_with_the_differing_keys():
    plan_trials(write_recipes(a=3), 1, Path("G"))
    with raises_user_error("output-of-other-settings", "G/a", "phases.1.steps"):
        plan_trials(write_recipes(a=4), 1, Path("G"))


def test_two_recipes_with_the_same_name_are_refused(tmp_path):
    (tmp_path / "other").mkdir()
    recipes = write_recipes(a=3, b=3)
    Recipe().write(tmp_path / "other" / "a.toml")
    with raises_user_error("duplicate-recipe", "name a"):
        plan_trials([*recipes, tmp_path / "other" / "a.toml"], 1, Path("G"))


def test_an_invalid_recipe_is_refused_before_any_training():
    Path("c.toml").write_text("sede = 1")
    with raises_user_error("unknown-setting", "sede"):
        plan_trials([*write_recipes(a=3), Path("c.toml")], 1, Path("G"))
    assert not Path("G").exists()
