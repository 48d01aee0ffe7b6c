"""A task type of another installed package."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ehr_bert.cohorts.cohort import COHORT_FOLDER, read_cohort
from tests.extension_command import run_with_extension
from tests.prediction.multitask.small import tasks_text, write_cohort
from tests.prediction.small import export_folder
from tests.user_errors import raises_user_error

FIT = {"learning_rate": 0.01, "epochs": 1, "least_updates": 4, "evaluate_updates": 2, "batch_examples": 16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A cohort with two numbers per patient, a model, and a task file."""
    folder = tmp_path_factory.mktemp("task_type")
    write_cohort(folder / "cohort")
    path = folder / "cohort" / COHORT_FOLDER / "part.parquet"
    table = pq.read_table(path)
    numbers = [[float(len(codes)), float(max(ids))] for codes, ids in zip(*lists(table), strict=True)]
    pq.write_table(table.append_column("numbers", pa.array(numbers, pa.list_(pa.float64()))), path)
    export_folder(folder / "model")
    (folder / "tasks.toml").write_text(tasks_text("binary", "numbers", **FIT))
    return folder


def lists(table):
    return (table[name].to_pylist() for name in ("codes", "visit_ids"))


def test_it_is_trained_and_evaluated_in_all_stages(folder):
    done = run_with_extension(
        *("multitask", folder / "tasks.toml", "--model", folder / "model"),
        *("--output", folder / "out", "--seeds", 1),
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((folder / "out/results.json").read_text())
    rows = [row for row in results["table"] if row["task"] == "numbers"]
    assert [row["stage"] for row in rows] == ["single", "joint", "fine_tuned"]
    for row in rows:
        error = row["test"]["mean_absolute_error"]
        assert 0 < error["low"] <= error["value"] <= error["high"]
    assert [task["outputs"] for task in results["tasks"]] == [1, 2]
    assert "mean absolute error" in (folder / "out/results.md").read_text()


def test_without_the_package_its_column_is_refused(folder):
    with raises_user_error("column-type", "numbers"):
        read_cohort(folder / "cohort")
