# Covers: ehr_bert.prediction.comparison.results, ehr_bert.prediction.comparison.runs,
# ehr_bert.prediction.comparison.held_out
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
from ehr_bert.metrics.delong import delong
from ehr_bert.prediction.comparison import results as results_module
from ehr_bert.prediction.comparison.held_out import HeldOut
from ehr_bert.prediction.comparison.results import best_baseline, curves, read_cells, summarise_runs
from ehr_bert.prediction.comparison.runs import finished_runs
from ehr_bert.prediction.contenders.contender import contender
from tests.prediction.cohorts import table, write_cohort
from tests.prediction.comparison.test_grid import grid_of, made
from tests.user_errors import raises_user_error

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
def summary(grid_folder):
    return summarise_runs(grid_folder)


def test_a_row_is_a_contender_at_a_size(summary):
    rows = [(row["model"], row["size"], row["seeds"]) for row in summary["table"]]
    assert rows == [(model, size, SEEDS) for size in (41, 199) for model in MODELS]
    assert len(summary["records"]) == 2 * len(MODELS) * SEEDS


def test_metrics_are_means_over_the_seeds_on_the_test_split(summary, grid_folder, cohort_folder):
    cohort = read_cohort(cohort_folder)
    labels = cohort.labels("label")
    for row in summary["table"]:
        areas = []
        for run in finished_runs(grid_folder):
            if run.model == row["model"] and run.record()["size"] == row["size"]:
                predictions = run.predictions()
                assert set(cohort.split[predictions["test_rows"]]) == {"test"}
                areas.append(
                    roc_auc_score(labels[predictions["test_rows"]], predictions["test_probabilities"])
                )
        assert row["auroc"]["value"] == pytest.approx(np.mean(areas))
        assert row["auroc"]["deviation"] == pytest.approx(np.std(areas, ddof=1))
        assert row["auroc"]["low"] <= row["auroc"]["value"] <= row["auroc"]["high"]


def test_the_best_baseline_has_the_highest_validation_auroc(summary, grid_folder):
    records = pd.json_normalize(summary["records"])
    baselines = records[[contender(model).is_baseline for model in records.model]]
    cells = {(cell.model, cell.size): cell for cell in read_cells(grid_folder)}
    test = HeldOut.read(grid_folder)
    for size in (41, 199):
        best = baselines[baselines["size"] == size].groupby("model")["valid.auroc"].mean().idxmax()
        assert best_baseline(cells.values(), size).model == best
        for row in summary["table"]:
            if row["size"] == size and row["model"] == best:
                assert row["delong"] is None
            elif row["size"] == size:
                pair = (cells[row["model"], size], cells[best, size])
                expected = delong(test.labels, *(cell.predictions("test_logits") for cell in pair))
                assert row["delong"] == {"baseline": best, **expected.to_dict()}


def test_the_test_patients_are_counted(summary, cohort_folder):
    cohort = read_cohort(cohort_folder)
    labels = cohort.labels("label")[cohort.split == "test"]
    assert summary["test"] == {"patients": 56, "examples": 56, "positives": labels.sum()}
    assert summary["replicates"] == 20


def test_the_auroc_of_the_true_risks_is_the_best_attainable(summary, cohort_folder):
    cohort = read_cohort(cohort_folder)
    is_test = cohort.split == "test"
    risks = pq.read_table(cohort_folder / RISK_FILE)["risk"].to_numpy()
    expected = roc_auc_score(cohort.labels("label")[is_test], risks[is_test])
    assert summary["best_attainable_auroc"] == pytest.approx(expected)


def test_subgroups_have_results_of_the_best_baseline_and_the_pretrained_contenders(summary):
    groups = {entry["group"] for entry in summary["subgroups"]}
    assert {"sex F", "sex M", "age 45-64", "visits 1"} <= groups
    models = {entry["model"] for entry in summary["subgroups"]}
    assert len(models) == 2
    assert "frozen_mean" in models


def test_curves_are_of_the_largest_size_and_the_seed_with_the_best_validation_auroc(grid_folder):
    drawn = curves(grid_folder)
    assert tuple(drawn) == MODELS
    for cell in read_cells(grid_folder):
        if cell.size == 199:
            best = max(cell.records, key=lambda record: record["valid"]["auroc"])
            _, risks = drawn[cell.model]
            assert roc_auc_score(drawn[cell.model][0], risks) == pytest.approx(best["test"]["auroc"])


def test_results_are_reproducible_json_without_patient_ids(summary, grid_folder):
    text = json.dumps(summary, allow_nan=False)
    assert json.dumps(summarise_runs(grid_folder)) == text
    assert "p001" not in text
    assert not [path for path in grid_folder.rglob("*") if path.is_file() and b"p001" in path.read_bytes()]


def test_delong_is_left_out_where_patients_have_several_examples(tmp_path):
    twice = pa.concat_tables([table(), table()])
    grid = grid_of(tmp_path / "grid", write_cohort(tmp_path / "cohort", made=twice))
    made(grid, MODELS[:2])
    summary = summarise_runs(grid.folder)
    assert [row["delong"] for row in summary["table"]] == [None, None]
    assert summary["best_attainable_auroc"] is None
    assert summary["table"][0]["size"] == 91


def damaged(grid_folder, tmp_path, place, content):
    """Return a copy of a comparison with one file overwritten."""
    copy = tmp_path / "copy"
    shutil.copytree(grid_folder, copy, dirs_exist_ok=True)
    (copy / place).parent.mkdir(parents=True, exist_ok=True)
    (copy / place).write_text(content)
    return copy


@pytest.mark.parametrize(
    ("place", "content", "key", "mentioned"),
    [
        ("runs/boosting/all/seed-1/result.json", "{", "damaged-run", "boosting/all/seed-1"),
        ("runs/boosting/all/seed-1/result.json", "{}", "damaged-run", "boosting/all/seed-1"),
        ("runs/boosting/all/seed-1/predictions.npz", "x", "damaged-run", "boosting/all/seed-1"),
        ("runs/oracle/all/seed-1/result.json", RECORD, "unknown-contender", "oracle"),
        ("test.npz", "x", "damaged-test-labels", "test.npz"),
        ("grid.json", "{}", "missing-key", "task"),
    ],
)
def test_damaged_files_are_reported(grid_folder, tmp_path, place, content, key, mentioned):
    with raises_user_error(key, mentioned):
        summarise_runs(damaged(grid_folder, tmp_path, place, content))


def test_folders_with_other_names_are_skipped(grid_folder, tmp_path):
    copy = damaged(grid_folder, tmp_path, "runs/boosting/all/seed-1 copy/result.json", "{}")
    assert [str(run) for run in finished_runs(copy)] == [str(run) for run in finished_runs(grid_folder)]


def test_folders_without_a_comparison_or_a_finished_run_are_refused(tmp_path, cohort_folder):
    with raises_user_error("not-a-comparison", tmp_path):
        summarise_runs(tmp_path)
    grid = grid_of(tmp_path / "grid", cohort_folder)
    grid.start(grid.problem())
    with raises_user_error("no-finished-run", grid.folder):
        summarise_runs(grid.folder)
