"""A metric of another installed package."""

import json

import pytest

from ehr_bert.cli import main
from tests.extension_command import run_with_extension
from tests.prediction.cohorts import write_cohort


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A comparison that ran with the package."""
    folder = tmp_path_factory.mktemp("metric")
    write_cohort(folder / "cohort")
    done = run_with_extension(
        *("finetune", "--cohort", folder / "cohort", "--output", folder / "out"),
        *("--models", "logistic_regression", "--seeds", 2, "--processes", 1),
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_it_is_in_the_results_and_has_a_table(folder):
    results = json.loads((folder / "out/results.json").read_text())
    (row,) = results["table"]
    assert row["accuracy"]["low"] <= row["accuracy"]["value"] <= row["accuracy"]["high"]
    assert row["accuracy"]["deviation"] is not None
    assert "accuracy" in results["records"][0]["test"]
    text = (folder / "out/results.md").read_text()
    assert "accuracy" in text.split("### Classification")[1].split("\n##")[0]


def test_evaluate_adds_it_to_runs_that_were_recorded_without_it(folder):
    for path in (folder / "out/runs").rglob("result.json"):
        record = json.loads(path.read_text())
        for split in ("valid", "test", "test_uncalibrated"):
            del record[split]["accuracy"]
        path.write_text(json.dumps(record))
    assert main(["evaluate", str(folder / "out")]) == 0
    assert "accuracy" not in (folder / "out/results.md").read_text()
    done = run_with_extension("evaluate", folder / "out")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((folder / "out/results.json").read_text())["table"]
    assert row["accuracy"]["deviation"] is not None
    assert "### Classification" in (folder / "out/results.md").read_text()
