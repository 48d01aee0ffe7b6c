import json
import shutil

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ehr_bert.cli import main
from ehr_bert.prediction.encoders import bert_encoder
from ehr_bert.prediction.multitask.running import RESULTS_FILE, run_tasks
from ehr_bert.prediction.multitask.stages import ENCODER_FOLDER, Stage, TaskRun, read_predictions, runs_of
from ehr_bert.prediction.multitask.tasks import TaskFile
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


def test_every_task_goes_through_its_stages(made):
    _, _, found = made
    stages = {kind: [row["stage"] for row in found["table"] if row["task"] == kind] for kind in TaskKind}
    assert stages.pop(ABSENT) == ["single", "fine_tuned"]
    for each in stages.values():
        assert each == ["single", "joint", "fine_tuned"]
    assert len(found["records"]) == 2 * len(found["table"]) == 2 * 11


def test_figures_are_those_of_the_test_split_averaged_over_seeds(made, data):
    _, output, found = made
    (binary,) = (each for each in data if each.task.kind is TaskKind.BINARY)
    labels = binary.sides[Split.TEST].labels.values[:, 0]
    for row in found["table"]:
        if row["task"] == "binary":
            task = None if row["stage"] == Stage.JOINT else "binary"
            runs = [TaskRun(Stage(row["stage"]), task, seed) for seed in (1, 2)]
            aurocs = [
                roc_auc_score(labels, read_predictions(run, "binary", output)[Split.TEST][:, 0])
                for run in runs
            ]
            auroc = row["test"]["auroc"]
            assert auroc["value"] == pytest.approx(np.mean(aurocs))
            assert auroc["low"] <= auroc["value"] <= auroc["high"]


def test_the_stripped_encoder_is_another_export(made, folder):
    _, output, _ = made
    encoder = TaskRun(Stage.JOINT, None, 1).folder(output) / ENCODER_FOLDER
    assert list(ModelVocabulary.of_folder(encoder).ids) == TOKENS
    after, before = (bert_encoder(each).token_embedding.weight for each in (encoder, folder / "model"))
    assert (after != before).any()


def test_what_is_finished_is_not_made_again_and_the_rest_comes_out_the_same(made, folder, tmp_path):
    path, output, found = made
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

    def shown(runs):
        left.extend(runs)
        return runs

    repeated = run_tasks(path, folder / "model", again, "mean", 2, shown=shown)
    assert set(left) == set(gone)
    assert repeated["table"] == found["table"]
    assert json.loads((again / RESULTS_FILE).read_text())["table"] == found["table"]


def test_other_settings_are_refused(made, folder):
    path, output, _ = made
    with raises_user_error("output-of-other-settings", "(head)"):
        run_tasks(path, folder / "model", output, "cls", 2)


def test_a_folder_of_something_else_is_left_alone(made, folder):
    with raises_user_error("output-not-empty", "settings.json"):
        run_tasks(made[0], folder / "model", folder / "cohort", "mean", 1)


def test_each_training_comes_after_those_it_needs(made):
    runs = runs_of(TaskFile.read(made[0]), 2)
    for seed in (1, 2):
        joint = runs.index(TaskRun(Stage.JOINT, None, seed))
        assert all(joint < runs.index(TaskRun(Stage.FINE_TUNED, kind.value, seed)) for kind in TaskKind)


def test_the_report_tells_no_patient_and_every_stage(made):
    text = multitask_report(made[2])
    assert text.count("alone after that") == 4
    assert text.count("with the others") == 3
    assert "Not in the joint training." in text
    assert "patient 1" not in json.dumps(made[2])


def test_the_command_writes_both_and_prints_the_table(made, folder, capsys):
    path, output, found = made
    arguments = ["multitask", str(path), "--model", str(folder / "model"), "--output", str(output)]
    assert main([*arguments, "--seeds", "2"]) == 0
    assert capsys.readouterr().out == multitask_report(found) + "\n"
    assert (output / "results.md").read_text() == multitask_report(found)
