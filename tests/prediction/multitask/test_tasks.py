# Covers: ehr_bert.prediction.multitask.task_file, ehr_bert.prediction.multitask.tasks
import pytest

from ehr_bert.prediction.multitask.task_file import TaskFile
from ehr_bert.prediction.multitask.tasks import read_tasks
from ehr_bert.schemas import TaskKind
from tests.prediction.multitask.small import tasks_text, write_cohort
from tests.user_errors import raises_user_error


def read(folder, text):
    (folder / "tasks.toml").write_text(text)
    return read_tasks(TaskFile.read(folder / "tasks.toml"), folder)


def test_a_task_has_the_examples_whose_label_is_known(tasks):
    assert [task.type.name for task in tasks] == list(TaskKind)
    assert {len(task.cohort) for task in tasks} == {81}


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        (tasks_text("binary"), "too-few-joint-tasks", ""),
        (tasks_text("binary", "visits", absent=("visits",)), "too-few-joint-tasks", ""),
        (tasks_text("binary", "binary"), "repeated-task", "binary"),
        (tasks_text("binary", "other"), "unknown-column", "other"),
        (tasks_text("binary", "visits", frozen="true"), "unknown-setting", "fit.frozen"),
        (tasks_text("binary", "visits", cohort="nowhere"), "not-a-cohort", "nowhere"),
        ('[[tasks]]\nname = "a"\n', "missing-setting", "cohort"),
        (tasks_text("binary", "a b"), "invalid-setting", "tasks.2.name"),
        (
            tasks_text("binary", "visits").replace('column = "visits"', 'kind = "visits"\ncolumn = "binary"'),
            "wrong-task-type",
            "column binary is binary, not visits",
        ),
        (
            tasks_text("binary", "visits").replace('column = "visits"', 'column = "visits"\nkind = "visit"'),
            "unknown-task-type",
            "tasks.2.kind",
        ),
        (
            tasks_text("binary", "visits").replace('column = "visits"', 'column = "visits"\nmin_positives=3'),
            "setting-without-effect",
            "min_positives",
        ),
    ],
)
def test_invalid_files_are_refused(folder, tmp_path, text, key, value):
    (tmp_path / "cohort").symlink_to(folder / "cohort")
    with raises_user_error(key, value):
        read(tmp_path, text)


def test_patients_that_cross_splits_are_refused_and_counted(tmp_path):
    given = [("train", "train", "valid", "test")[number % 4] for number in range(60)]
    write_cohort(tmp_path / "one", 60, seed=1, splits=given)
    write_cohort(tmp_path / "other", 60, seed=2, splits=[*given[:5], "test", "train", *given[7:]])
    write_cohort(tmp_path / "apart", 60, seed=3, first=60)
    one, other, apart = (
        tasks_text(kind, cohort=name).replace("[fit]\n", "")
        for kind, name in (("binary", "one"), ("visits", "other"), ("regression", "apart"))
    )
    assert len(read(tmp_path, one + apart)) == 2
    with raises_user_error("patients-in-two-splits", "2 patients", "/one", "/other") as error:
        read(tmp_path, one + other + apart)
    assert "apart" not in str(error.value)
    assert "patient 5" not in str(error.value)


def test_a_split_without_labels_is_refused(tmp_path):
    write_cohort(tmp_path / "cohort", 40, splits=["train", "valid"] * 20)
    with raises_user_error("empty-split", "test", "binary"):
        read(tmp_path, tasks_text("binary", "visits"))
