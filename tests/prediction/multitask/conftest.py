import pytest

from ehr_bert.prediction.multitask.data import data_of
from ehr_bert.prediction.multitask.task_file import TaskFile
from ehr_bert.prediction.multitask.tasks import read_tasks
from ehr_bert.prediction.reading import ModelVocabulary
from ehr_bert.schemas import TaskKind
from tests.prediction.multitask.small import tasks_text, write_cohort


@pytest.fixture(scope="session")
def folder(tmp_path_factory, export):
    """Holds `cohort`, `model` and `tasks.toml`, with a task of each kind."""
    folder = tmp_path_factory.mktemp("multitask")
    write_cohort(folder / "cohort")
    (folder / "model").symlink_to(export)
    (folder / "tasks.toml").write_text(tasks_text(*TaskKind))
    return folder


@pytest.fixture(scope="session")
def tasks(folder):
    return read_tasks(TaskFile.read(folder / "tasks.toml"), folder)


@pytest.fixture(scope="session")
def data(folder, tasks):
    return data_of(tasks, ModelVocabulary.of_folder(folder / "model"))
