import json
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from ehr_bert.cohorts.cohort import read_cohort
from ehr_bert.cohorts.folder import RISK_FILE
from ehr_bert.errors import UserError
from ehr_bert.metrics.delong import delong
from ehr_bert.prediction.comparison import results as results_module
from ehr_bert.prediction.comparison.held_out import HeldOut
from ehr_bert.prediction.comparison.results import best_baseline, curves, read_cells, summarise_runs
from ehr_bert.prediction.comparison.runs import runs_done
from ehr_bert.prediction.contenders.contender import contender
from tests.prediction.cohorts import table, write_cohort
from tests.prediction.comparison.test_grid import grid_of, made

MODELS = ("logistic_regression", "logistic_regression_counts", "boosting", "frozen_mean")
SEEDS = 3
RECORD = json.dumps(dict.fromkeys(("model", "size", "seed", "valid", "test", "chosen", "seconds"), 1))


@pytest.fixture(scope="module", autouse=True)
def few_replicates():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results_module, "BOOTSTRAP_REPLICATES", 20)
        yield


@pytest.fixture(scope="module")
def cohort_folder(tmp_path_factory):
    folder = write_cohort(tmp_path_factory.mktemp("results") / "cohort", patients=311)
    risks = np.random.default_rng(0).random(311)
    pq.write_table(pa.table({"risk": risks}), folder / RISK_FILE)
    return folder


@pytest.fixture(scope="module")
def grid_folder(tmp_path_factory, cohort_folder, export):
    grid = grid_of(tmp_path_factory.mktemp("results") / "grid", cohort_folder, export)
    made(grid, MODELS, sizes=(41, None), seeds=SEEDS)
    return grid.folder


@pytest.fixture(scope="module")
def summed_up(grid_folder):
    return summarise_runs(grid_folder)


def test_a_row_is_a_contender_at_a_size(summed_up):
    rows = [(row["model"], row["size"], row["seeds"]) for row in summed_up["table"]]
    assert rows == [(model, size, SEEDS) for size in (41, 199) for model in MODELS]
    assert len(summed_up["records"]) == 2 * len(MODELS) * SEEDS


def test_figures_are_means_over_seeds_of_the_test_split(summed_up, grid_folder, cohort_folder):
    cohort = read_cohort(cohort_folder)
    labels = cohort.labels("label")
    for row in summed_up["table"]:
        areas = []
        for run in runs_done(grid_folder):
            if run.model == row["model"] and run.record()["size"] == row["size"]:
                found = run.predictions()
                assert set(cohort.split[found["test_rows"]]) == {"test"}
                areas.append(roc_auc_score(labels[found["test_rows"]], found["test_probabilities"]))
        assert row["auroc"]["value"] == pytest.approx(np.mean(areas))
        assert row["auroc"]["deviation"] == pytest.approx(np.std(areas, ddof=1))
        assert row["auroc"]["low"] <= row["auroc"]["value"] <= row["auroc"]["high"]


def test_the_best_baseline_is_that_of_the_validation_split(summed_up, grid_folder):
    records = pd.json_normalize(summed_up["records"])
    baselines = records[[contender(model).is_baseline for model in records.model]]
    cells = {(cell.model, cell.size): cell for cell in read_cells(grid_folder)}
    test = HeldOut.read(grid_folder)
    for size in (41, 199):
        best = baselines[baselines["size"] == size].groupby("model")["valid.auroc"].mean().idxmax()
        assert best_baseline(cells.values(), size).model == best
        for row in summed_up["table"]:
            if row["size"] == size and row["model"] == best:
                assert row["delong"] is None
            elif row["size"] == size:
                pair = (cells[row["model"], size], cells[best, size])
                expected = delong(test.labels, *(cell.predictions("test_logits") for cell in pair))
                assert row["delong"] == {"baseline": best, **expected.to_dict()}


def test_who_was_tested_is_told(summed_up, cohort_folder):
    cohort = read_cohort(cohort_folder)
    labels = cohort.labels("label")[cohort.split == "test"]
    assert summed_up["test"] == {"patients": 56, "examples": 56, "positives": labels.sum()}
    assert summed_up["replicates"] == 20


def test_what_true_risks_reach_is_told(summed_up, cohort_folder):
    cohort = read_cohort(cohort_folder)
    is_test = cohort.split == "test"
    risks = pq.read_table(cohort_folder / RISK_FILE)["risk"].to_numpy()
    expected = roc_auc_score(cohort.labels("label")[is_test], risks[is_test])
    assert summed_up["best_attainable_auroc"] == pytest.approx(expected)


def test_groups_are_looked_at_by_who_owes_to_the_pretraining_and_the_best_baseline(summed_up):
    groups = {entry["group"] for entry in summed_up["subgroups"]}
    assert {"sex F", "sex M", "age 45-64", "visits 1"} <= groups
    models = {entry["model"] for entry in summed_up["subgroups"]}
    assert len(models) == 2
    assert "frozen_mean" in models


def test_curves_are_of_the_largest_size_and_the_best_seed_on_validation(grid_folder):
    drawn = curves(grid_folder)
    assert tuple(drawn) == MODELS
    for cell in read_cells(grid_folder):
        if cell.size == 199:
            best = max(cell.records, key=lambda record: record["valid"]["auroc"])
            _, risks = drawn[cell.model]
            assert roc_auc_score(drawn[cell.model][0], risks) == pytest.approx(best["test"]["auroc"])


def test_it_is_json_without_patients_and_the_same_again(summed_up, grid_folder):
    text = json.dumps(summed_up, allow_nan=False)
    assert json.dumps(summarise_runs(grid_folder)) == text
    assert "p001" not in text
    assert not [path for path in grid_folder.rglob("*") if path.is_file() and b"p001" in path.read_bytes()]


def test_delong_is_left_out_where_patients_have_several_examples(tmp_path):
    twice = pa.concat_tables([table(), table()])
    grid = grid_of(tmp_path / "grid", write_cohort(tmp_path / "cohort", made=twice))
    made(grid, MODELS[:2])
    found = summarise_runs(grid.folder)
    assert [row["delong"] for row in found["table"]] == [None, None]
    assert found["best_attainable_auroc"] is None
    assert found["table"][0]["size"] == 91


def damaged(grid_folder, tmp_path, place, content):
    """A copy of a grid, one file of it written over."""
    copy = tmp_path / "copy"
    shutil.copytree(grid_folder, copy, dirs_exist_ok=True)
    (copy / place).parent.mkdir(parents=True, exist_ok=True)
    (copy / place).write_text(content)
    return copy


@pytest.mark.parametrize(
    ("place", "content", "message"),
    [
        ("runs/boosting/all/seed-1/result.json", "{", r"is not valid JSON.*remove .*boosting/all/seed-1"),
        (
            "runs/boosting/all/seed-1/result.json",
            "{}",
            r"result\.json lacks .*: remove .*boosting/all/seed-1",
        ),
        ("runs/boosting/all/seed-1/predictions.npz", "x", "damaged one: remove .*boosting/all/seed-1"),
        ("runs/oracle/all/seed-1/result.json", RECORD, "no contender 'oracle'"),
        ("test.npz", "x", r"test\.npz .* `ehr-bert finetune` writes it again"),
        ("grid.json", "{}", r"grid\.json lacks the task"),
    ],
)
def test_a_damaged_file_is_told_in_a_line(grid_folder, tmp_path, place, content, message):
    with pytest.raises(UserError, match=message) as told:
        summarise_runs(damaged(grid_folder, tmp_path, place, content))
    assert "\n" not in str(told.value)


def test_folders_that_are_no_runs_are_left_out(grid_folder, tmp_path):
    copy = damaged(grid_folder, tmp_path, "runs/boosting/all/seed-1 copy/result.json", "{}")
    assert [str(run) for run in runs_done(copy)] == [str(run) for run in runs_done(grid_folder)]


def test_an_empty_or_another_folder_is_told(tmp_path, cohort_folder):
    with pytest.raises(UserError, match=r"holds no test\.npz"):
        summarise_runs(tmp_path)
    grid = grid_of(tmp_path / "grid", cohort_folder)
    grid.begin(grid.problem())
    with pytest.raises(UserError, match="holds no finished run"):
        summarise_runs(grid.folder)
