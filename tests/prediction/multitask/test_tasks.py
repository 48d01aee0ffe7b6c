import pytest

from ehr_bert.errors import UserError
from ehr_bert.prediction.multitask.tasks import TaskFile, read_tasks
from ehr_bert.schemas import TaskKind
from tests.prediction.multitask.small import tasks_text, write_cohort


def read(folder, text):
    (folder / "tasks.toml").write_text(text)
    return read_tasks(TaskFile.read(folder / "tasks.toml"), folder)


def test_a_task_has_the_examples_whose_label_is_known(tasks):
    assert [task.kind for task in tasks] == list(TaskKind)
    assert {len(task.cohort) for task in tasks} == {81}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (tasks_text("binary"), "fewer than two take part"),
        (tasks_text("binary", "visits", absent=("visits",)), "fewer than two take part"),
        (tasks_text("binary", "binary"), "tasks: binary is the name of several"),
        (tasks_text("binary", "other"), "task other: cohort has no column of labels 'other'"),
        (tasks_text("binary", "visits", frozen="true"), "unknown setting 'fit.frozen'"),
        (tasks_text("binary", "visits", cohort="nowhere"), "nowhere holds no cohort"),
        ('[[tasks]]\nname = "a"\n', "tasks.1 lacks the key 'cohort'"),
        (tasks_text("binary", "a b"), "tasks.2.name must be a text, of letters"),
        (
            tasks_text("binary", "visits").replace('column = "visits"', 'kind = "visits"\ncolumn = "binary"'),
            "column binary is binary, not visits",
        ),
    ],
)
def test_a_wrong_file_is_refused_with_the_reason(folder, tmp_path, text, words):
    (tmp_path / "cohort").symlink_to(folder / "cohort")
    with pytest.raises(UserError, match=words):
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
    with pytest.raises(
        UserError, match=r"2 patients are in different splits of .*one, .*other: make"
    ) as error:
        read(tmp_path, one + other + apart)
    assert "apart" not in str(error.value)
    assert "patient 5" not in str(error.value)


def test_a_split_without_labels_is_refused(tmp_path):
    write_cohort(tmp_path / "cohort", 40, splits=["train", "valid"] * 20)
    with pytest.raises(UserError, match="has no test examples whose binary is known"):
        read(tmp_path, tasks_text("binary", "visits"))
