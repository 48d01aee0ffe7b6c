import pytest

from ehr_bert.errors import UserError
from ehr_bert.files import FOLDER_MARK, TRAINING_MARK, folder_written_aside, written_aside


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_files_appear_together_when_all_are_written(tmp_path):
    with written_aside(tmp_path / "deep" / "a", tmp_path / "deep" / "b") as (a, b):
        a.write_text("1")
        b.write_text("2")
        assert "a" not in names(tmp_path / "deep")
    assert names(tmp_path / "deep") == ["a", "b"]


def test_after_a_fault_the_old_file_stands_and_nothing_else(tmp_path):
    (tmp_path / "a").write_text("old")

    def fail_half_way():
        with written_aside(tmp_path / "a", tmp_path / "b") as (a, _):
            a.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail_half_way()
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_what_a_kill_left_behind_is_cleared(tmp_path):
    (tmp_path / ".a.partial").write_text("half of an earlier run")
    with written_aside(tmp_path / "a") as (a,):
        assert not a.exists()
        a.write_text("whole")
    assert names(tmp_path) == ["a"]


def make(folder, stage="preprocess"):
    with folder_written_aside(folder, stage) as aside:
        (aside / FOLDER_MARK).write_text("{}")


def test_an_earlier_output_folder_is_replaced(tmp_path):
    make(tmp_path / "out")
    (tmp_path / "out" / "stale").touch()
    make(tmp_path / "out")
    assert names(tmp_path / "out") == [FOLDER_MARK]
    assert names(tmp_path) == ["out"]


def test_a_training_is_never_replaced(tmp_path):
    make(tmp_path / "out")
    (tmp_path / "out" / TRAINING_MARK).touch()
    with pytest.raises(UserError, match="is not an earlier output of preprocess"):
        make(tmp_path / "out")
    assert names(tmp_path / "out") == [TRAINING_MARK, FOLDER_MARK]


def test_what_is_read_is_never_replaced(tmp_path):
    make(tmp_path / "in")
    for source in (tmp_path / "in", tmp_path / "in" / "table.tsv"):
        with (
            pytest.raises(UserError, match="holds what is read"),
            folder_written_aside(tmp_path / "x" / ".." / "in", "features", source),
        ):
            pass
    assert names(tmp_path) == ["in"]


def test_the_output_of_another_stage_is_left_alone(tmp_path):
    make(tmp_path / "out", "simulate")
    (tmp_path / "out" / "data_file.tsv").touch()
    with pytest.raises(UserError, match="is not an earlier output of preprocess"):
        make(tmp_path / "out")
    assert names(tmp_path / "out") == ["data_file.tsv", FOLDER_MARK]


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis").touch()
    with pytest.raises(UserError, match="is not an earlier output"):
        make(tmp_path)
    assert names(tmp_path) == ["thesis"]


def test_a_folder_that_failed_is_not_there(tmp_path):
    def fail_half_way():
        with folder_written_aside(tmp_path / "out", "features") as aside:
            (aside / FOLDER_MARK).touch()
            raise KeyError

    with pytest.raises(KeyError):
        fail_half_way()
    assert names(tmp_path) == []
