# Covers: ehr_bert.prediction.multitask.running, ehr_bert.prediction.multitask.stages,
# ehr_bert.prediction.multitask.results, ehr_bert.cli.multitask
import json
import shutil

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ehr_bert.cli import main
from ehr_bert.prediction.comparison.results import RESULTS_FILE
from ehr_bert.prediction.encoders import bert_encoder
from ehr_bert.prediction.multitask.running import run_tasks
from ehr_bert.prediction.multitask.stages import ENCODER_FOLDER, Stage, TaskRun, read_task_logits, runs_of
from ehr_bert.prediction.multitask.task_file import TaskFile
from ehr_bert.prediction.reading import ModelVocabulary
from ehr_bert.report.multitask_table import multitask_report
from ehr_bert.schemas import Split, TaskKind
from tests.prediction.multitask.small import tasks_text
from tests.prediction.small import TOKENS
from tests.user_errors import raises_user_error

ABSENT = TaskKind.REGRESSION
FIT = {"learning_rate": 0.01, "epochs": 2, "least_updates": 12, "evaluate_updates": 4, "batch_examples": 16}


@pytest.fixture(scope="module")
def made(folder):
    """The task file, the output folder, and its results."""
    path, output = folder / "made.toml", folder / "made"
    path.write_text(tasks_text(*TaskKind, absent=(ABSENT,), **FIT))
    return path, output, run_tasks(path, folder / "model", output, "mean", 2)


def test_every_task_is_trained_in_its_stages(made):
    _, _, results = made
    stages = {kind: [row["stage"] for row in results["table"] if row["task"] == kind] for kind in TaskKind}
    assert stages.pop(ABSENT) == ["single", "fine_tuned"]
    for task_stages in stages.values():
        assert task_stages == ["single", "joint", "fine_tuned"]
    assert len(results["records"]) == 2 * len(results["table"]) == 2 * 11


def test_metrics_are_means_over_the_seeds_on_the_test_split(made, data):
    _, output, results = made
    (binary,) = (task_data for task_data in data if task_data.task.type.name == TaskKind.BINARY)
    labels = binary.splits[Split.TEST].labels.values[:, 0]
    for row in results["table"]:
        if row["task"] == "binary":
            task = None if row["stage"] == Stage.JOINT else "binary"
            runs = [TaskRun(Stage(row["stage"]), task, seed) for seed in (1, 2)]
            aurocs = [
                roc_auc_score(labels, read_task_logits(run, "binary", output)[Split.TEST][:, 0])
                for run in runs
            ]
            auroc = row["test"]["auroc"]
            assert auroc["value"] == pytest.approx(np.mean(aurocs))
            assert auroc["low"] <= auroc["value"] <= auroc["high"]


def test_the_jointly_trained_encoder_is_an_export_folder(made, folder):
    _, output, _ = made
    encoder = TaskRun(Stage.JOINT, None, 1).folder(output) / ENCODER_FOLDER
    assert list(ModelVocabulary.of_folder(encoder).ids) == TOKENS
    after, before = (bert_encoder(export).token_embedding.weight for export in (encoder, folder / "model"))
    assert (after != before).any()


def test_unfinished_trainings_resume_with_the_same_results(made, folder, tmp_path):
    path, output, results = made
    again = tmp_path / "again"
    shutil.copytree(output, again)
    gone = [
        TaskRun(Stage.SINGLE, "binary", 2),
        TaskRun(Stage.FINE_TUNED, "visits", 1),
        TaskRun(Stage.JOINT, None, 1),
    ]
    for run in gone:
        shutil.rmtree(run.folder(again))
    left = []

    def progress(runs):
        left.extend(runs)
        return runs

    repeated = run_tasks(path, folder / "model", again, "mean", 2, progress=progress)
    assert set(left) == set(gone)
    assert repeated["table"] == results["table"]
    assert json.loads((again / RESULTS_FILE).read_text())["table"] == results["table"]


def test_other_settings_are_refused(made, folder):
    path, output, _ = made
    with raises_user_error("output-of-other-settings", "(head)"):
        run_tasks(path, folder / "model", output, "cls", 2)


def test_a_folder_of_another_program_is_refused(made, folder):
    with raises_user_error("output-not-empty", "settings.json"):
        run_tasks(made[0], folder / "model", folder / "cohort", "mean", 1)


def test_each_training_comes_after_those_it_needs(made):
    runs = runs_of(TaskFile.read(made[0]), 2)
    for seed in (1, 2):
        joint = runs.index(TaskRun(Stage.JOINT, None, seed))
        assert all(joint < runs.index(TaskRun(Stage.FINE_TUNED, kind.value, seed)) for kind in TaskKind)


def test_the_report_has_every_stage_and_no_patient(made):
    text = multitask_report(made[2])
    assert text.count("joint, then fine-tuned") == 4
    assert text.count("| joint training ") == 3
    assert "Not part of the joint training." in text
    assert "patient 1" not in json.dumps(made[2])


def test_the_command_writes_both_and_prints_the_table(made, folder, capsys):
    path, output, results = made
    arguments = ["multitask", str(path), "--model", str(folder / "model"), "--output", str(output)]
    assert main([*arguments, "--seeds", "2"]) == 0
    assert capsys.readouterr().out == multitask_report(results) + "\n"
    assert (output / "results.md").read_text() == multitask_report(results)
