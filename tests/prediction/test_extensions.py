"""A contender and a head of another installed package."""

import json

import pytest

from tests.extension_command import run_with_extension
from tests.prediction.cohorts import write_cohort
from tests.prediction.small import export_folder

SETTINGS = """
learning_rates = [1e-2]
[fit]
epochs = 1
least_updates = 4
evaluate_updates = 2
batch_examples = 16
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A comparison of an extension's contender with a fine-tuned BERT that has an extension's head."""
    folder = tmp_path_factory.mktemp("extensions")
    write_cohort(folder / "cohort")
    export_folder(folder / "export")
    (folder / "settings.toml").write_text(SETTINGS)
    done = run_with_extension(
        *("finetune", "--model", folder / "export", "--cohort", folder / "cohort"),
        *("--output", folder / "out", "--settings", folder / "settings.toml", "--processes", 1),
        *("--head", "max", "--models", "number_of_codes", "boosting", "pretrained_max"),
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_they_are_in_the_results_after_the_built_in_ones(folder):
    results = json.loads((folder / "out/results.json").read_text())
    assert [row["model"] for row in results["table"]] == ["boosting", "pretrained_max", "number_of_codes"]
    text = (folder / "out/results.md").read_text()
    assert "number of codes" in text
    assert "pretrained max" in text
    assert "number of codes" in (folder / "out/roc.svg").read_text()


def test_a_saved_model_with_the_head_predicts(folder):
    arguments = ("--model", folder / "out", "--input", folder / "cohort", folder / "risks.csv")
    done = run_with_extension("predict", *arguments)
    assert done.returncode == 0, done.stderr
    assert len((folder / "risks.csv").read_text().splitlines()) == 1 + 143


def test_the_help_lists_them():
    text = run_with_extension("finetune", "--help").stdout
    assert "number_of_codes" in text
    assert "retain,max" in text
