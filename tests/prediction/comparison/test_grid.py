import json
import os
import shutil

import pytest

from ehr_bert.prediction.comparison.grid import Grid, plan_runs, run_contenders
from ehr_bert.prediction.comparison.runs import RESULT_FILE, ContenderRun, finished_runs
from ehr_bert.prediction.contenders.contender import contender, default_contenders, table_position
from ehr_bert.prediction.contenders.tuning import Tuning
from ehr_bert.prediction.optimization import SearchFitSettings
from tests.prediction.cohorts import write_cohort
from tests.user_errors import raises_user_error

QUICK = Tuning(
    learning_rates=(1e-3, 1e-2),
    head_learning_rates=(1e-2,),
    untrained_learning_rates=(1e-2,),
    scratch_learning_rates=(1e-2,),
    fit=SearchFitSettings(epochs=1, least_updates=4, evaluate_updates=2, batch_examples=16),
)


@pytest.fixture(scope="module")
def cohort_folder(tmp_path_factory):
    return write_cohort(tmp_path_factory.mktemp("cohort") / "cohort")


def grid_of(folder, cohort, model=None, tuning=QUICK):
    return Grid(folder, cohort, "label", model, tuning)


def made(grid, models, sizes=(None,), seeds=1, processes=1):
    """Run what is missing, and return the names of these runs."""
    problem = grid.problem()
    grid.start(problem)
    runs = plan_runs(grid.folder, models, sizes, seeds)
    return [
        str(run)
        for run in run_contenders(grid, problem, [run for run in runs if not run.is_finished], processes)
    ]


def written(folder):
    """Return all results without their seconds, and all predictions, by run."""
    content = {}
    for run in finished_runs(folder):
        record = {key: value for key, value in run.record().items() if key != "seconds"}
        content[str(run)] = (
            json.dumps(record),
            {name: array.tolist() for name, array in run.predictions().items()},
        )
    return content


def test_all_contenders_have_a_place_and_a_run(export, cohort_folder, tmp_path):
    models = default_contenders("mean")
    assert models == sorted(models, key=table_position)
    grid = grid_of(tmp_path / "grid", cohort_folder, export)
    assert len(made(grid, models, sizes=(41,))) == len(models) == 11
    for run in finished_runs(grid.folder):
        record, predictions = run.record(), run.predictions()
        assert record["size"] == record["train_examples"] == 41
        assert 0 < record["test"]["auroc"] <= 1
        assert len(predictions["test_rows"]) == len(predictions["test_probabilities"]) == 26
        assert ((predictions["valid_probabilities"] > 0) & (predictions["valid_probabilities"] < 1)).all()


def test_what_a_contender_needs_is_added_and_made_before(export, cohort_folder, tmp_path):
    runs = plan_runs(tmp_path, ["stack_cls", "boosting"], [41, None], 2)
    assert [run.seed for run in runs] == [1] * 12 + [2] * 12
    assert [run.size for run in runs] == ([41] * 6 + [None] * 6) * 2
    assert runs[5].model == "stack_cls"
    assert {run.model for run in runs[:5]} == {"boosting", *contender("stack_cls").needs}


def test_several_processes_give_the_same_as_one(export, cohort_folder, tmp_path):
    models = ["stack_cls", "gru"]
    for name, processes in (("one", 1), ("two", 2)):
        made(grid_of(tmp_path / name, cohort_folder, export), models, (41,), processes=processes)
    assert written(tmp_path / "one") == written(tmp_path / "two")


def test_a_grid_goes_on_with_what_is_left(cohort_folder, tmp_path):
    whole, cut = grid_of(tmp_path / "whole", cohort_folder), grid_of(tmp_path / "cut", cohort_folder)
    models = ["logistic_regression", "boosting", "retain"]
    assert len(made(whole, models, (41, None), seeds=2)) == 12
    shutil.copytree(whole.folder, cut.folder)
    os.remove(ContenderRun(cut.folder, "retain", 41, 2).folder / RESULT_FILE)  # predictions without a result
    shutil.rmtree(ContenderRun(cut.folder, "boosting", None, 1).folder)
    assert made(cut, models, (41, None), seeds=2) == ["boosting, all, seed 1", "retain, 41, seed 2"]
    assert written(cut.folder) == written(whole.folder)


def test_more_seeds_sizes_and_contenders_are_added(cohort_folder, tmp_path):
    grid = grid_of(tmp_path / "grid", cohort_folder)
    made(grid, ["logistic_regression"], (41,))
    assert made(grid, ["logistic_regression", "boosting"], (41, 60), seeds=2)[0] == "boosting, 41, seed 1"
    assert len(list(finished_runs(grid.folder))) == 8


def test_runs_of_another_cohort_or_tuning_are_not_mixed(cohort_folder, tmp_path):
    grid = grid_of(tmp_path / "grid", cohort_folder)
    made(grid, ["logistic_regression"])
    other = write_cohort(tmp_path / "other", seed=1)
    with raises_user_error("output-of-other-settings", "cohort, tuning"):
        made(grid_of(grid.folder, other, tuning=Tuning()), ["logistic_regression"])


def test_a_folder_of_something_else_is_left_alone(cohort_folder, tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with raises_user_error("output-not-empty", "grid.json"):
        made(grid_of(tmp_path, cohort_folder), ["logistic_regression"])


def test_a_missing_pretrained_model_is_told(cohort_folder, tmp_path):
    with raises_user_error("pretrained-model-needed", "--model"):
        made(grid_of(tmp_path / "grid", cohort_folder), ["frozen_cls"])


def test_an_unknown_contender_is_told(tmp_path):
    with raises_user_error("unknown-contender", "pretrained_max", "boosting", "retain"):
        plan_runs(tmp_path, ["pretrained_max"], [None], 1)
