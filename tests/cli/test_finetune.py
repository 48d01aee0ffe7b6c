# Covers: ehr_bert.cli.evaluate, ehr_bert.prediction.comparison.best_model
import json
import subprocess
import sys
import time

import numpy as np
import pytest

from ehr_bert.cli import main
from ehr_bert.cohorts.cohort import read_cohort
from ehr_bert.prediction.comparison.runs import finished_runs
from ehr_bert.prediction.fitting import predict_logits
from ehr_bert.prediction.predictor import load_predictor
from ehr_bert.prediction.reading import encode
from tests.prediction.cohorts import write_cohort
from tests.prediction.small import export_folder

SETTINGS = """
learning_rates = [1e-3, 1e-2]
[fit]
epochs = 2
least_updates = 6
evaluate_updates = 3
batch_examples = 16
"""


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A folder with inputs and outputs of the command, and the command."""
    folder = tmp_path_factory.mktemp("finetune")
    write_cohort(folder / "cohort")
    export_folder(folder / "export")
    (folder / "settings.toml").write_text(SETTINGS)
    command = [
        *("finetune", "--model", folder / "export", "--cohort", folder / "cohort"),
        *("--output", folder / "out", "--settings", folder / "settings.toml", "--head", "gru"),
        *("--models", "logistic_regression", "stack_gru", "--train-sizes", "41,all", "--seeds", "2"),
        *("--processes", "1"),
    ]
    command = [str(part) for part in command]
    assert main(command) == 0
    return folder, command


def files_of(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_tables_plots_and_runs_are_written(compared, capsys):
    folder, _ = compared
    results = json.loads((folder / "out/results.json").read_text())
    assert len(results["records"]) == 2 * 2 * 5
    assert "logistic regression" in (folder / "out/results.md").read_text()
    for name in ("learning_curve", "roc", "precision_recall", "calibration", "decision_curve"):
        assert (folder / f"out/{name}.png").exists()
        assert (folder / f"out/{name}.svg").exists()


def test_a_repeated_command_changes_nothing(compared, capsys):
    folder, command = compared
    before = files_of(folder / "out")
    assert main(command) == 0
    assert main(["evaluate", str(folder / "out")]) == 0
    assert files_of(folder / "out") == before
    assert "AUROC by training size" in capsys.readouterr().out


def test_the_saved_model_predicts_the_risks_of_its_run(compared):
    folder, _ = compared
    saved = load_predictor(folder / "out/model")
    seed = saved.facts["seed"]
    assert saved.facts["size"] == 91
    results = json.loads((folder / "out/results.json").read_text())
    aurocs = {
        record["seed"]: record["valid"]["auroc"]
        for record in results["records"]
        if record["model"] == "pretrained_gru" and record["size"] == 91
    }
    assert seed == max(aurocs, key=aurocs.get)
    with np.load(folder / f"out/runs/pretrained_gru/all/seed-{seed}/predictions.npz") as run:
        cohort = read_cohort(folder / "cohort").take(run["test_rows"])
        read = encode(cohort.histories, saved.vocabulary)
        risks = saved.calibration.probabilities(predict_logits(saved.predictor, read)[:, 0])
        assert risks == pytest.approx(run["test_probabilities"], abs=1e-5)


@pytest.mark.parametrize(
    ("flags", "key"),
    [
        (["--train-sizes", "92"], "training-size-out-of-range"),
        (["--models", "oracle"], "unknown-contender"),
        (["--task", "died"], "unknown-task"),
        ([], "pretrained-model-needed"),
        (["--model", "none"], "not-an-export"),
    ],
)
def test_wrong_arguments_are_refused(compared, capsys, tmp_path, flags, key):
    folder, _ = compared
    command = ["finetune", "--cohort", str(folder / "cohort"), "--output", str(tmp_path / "out"), *flags]
    assert main(command) == 1
    assert f"[{key}]" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_size_is_a_number_or_all(compared, tmp_path):
    folder, _ = compared
    with pytest.raises(SystemExit) as stopped:
        main(["finetune", "--cohort", str(folder), "--output", str(tmp_path), "--train-sizes", "5,many"])
    assert stopped.value.code == 2


@pytest.mark.slow
def test_a_killed_comparison_is_resumed_with_the_same_results(compared, tmp_path):
    folder, _ = compared
    command = [
        *(sys.executable, "-m", "ehr_bert", "finetune", "--cohort", str(folder / "cohort")),
        *("--models", "boosting", "gru", "retain", "--train-sizes", "41,all", "--seeds", "3"),
        *("--settings", str(folder / "settings.toml"), "--processes", "2", "--output"),
    ]
    subprocess.run([*command, str(tmp_path / "whole")], check=True)
    cut = subprocess.Popen([*command, str(tmp_path / "cut")])
    while len(list(finished_runs(tmp_path / "cut"))) < 4:
        time.sleep(0.05)
    cut.kill()
    cut.wait()
    assert len(list(finished_runs(tmp_path / "cut"))) < 18
    subprocess.run([*command, str(tmp_path / "cut")], check=True)
    assert records_of(tmp_path / "cut") == records_of(tmp_path / "whole")


def records_of(folder):
    """Return all records without their durations."""
    records = json.loads((folder / "results.json").read_text())["records"]
    return [{**record, "seconds": None} for record in records]
