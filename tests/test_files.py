import json
import math

import pytest

from ehr_bert.files import (
    CHECKPOINT_FILE,
    SUMMARY_FILE,
    atomic_files,
    atomic_folder,
    nan_to_none,
    read_json,
    refuse_changed_settings,
    refuse_foreign_folder,
    write_json,
)
from tests.user_errors import raises_user_error


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_files_appear_together_when_all_are_written(tmp_path):
    with atomic_files(tmp_path / "deep" / "a", tmp_path / "deep" / "b") as (a, b):
        a.write_text("1")
        b.write_text("2")
        assert "a" not in names(tmp_path / "deep")
    assert names(tmp_path / "deep") == ["a", "b"]


def test_an_exception_leaves_the_old_file_unchanged(tmp_path):
    (tmp_path / "a").write_text("old")

    def fail_half_way():
        with atomic_files(tmp_path / "a", tmp_path / "b") as (a, _):
            a.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail_half_way()
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_temporary_files_of_a_killed_run_are_removed(tmp_path):
    (tmp_path / ".a.partial").write_text("half of an earlier run")
    with atomic_files(tmp_path / "a") as (a,):
        assert not a.exists()
        a.write_text("complete")
    assert names(tmp_path) == ["a"]


def write_folder(folder, stage="preprocess"):
    with atomic_folder(folder, stage) as temporary:
        write_json(temporary / SUMMARY_FILE, {})


def test_the_summary_names_the_stage(tmp_path):
    write_folder(tmp_path / "out")
    assert read_json(tmp_path / "out" / SUMMARY_FILE) == {"stage": "preprocess"}


def test_an_earlier_output_of_the_same_stage_is_replaced(tmp_path):
    write_folder(tmp_path / "out")
    (tmp_path / "out" / "stale").touch()
    write_folder(tmp_path / "out")
    assert names(tmp_path / "out") == [SUMMARY_FILE]
    assert names(tmp_path) == ["out"]


def test_a_training_folder_is_never_replaced(tmp_path):
    write_folder(tmp_path / "out")
    (tmp_path / "out" / CHECKPOINT_FILE).touch()
    with raises_user_error("output-not-empty", tmp_path / "out", "preprocess"):
        write_folder(tmp_path / "out")
    assert names(tmp_path / "out") == [CHECKPOINT_FILE, SUMMARY_FILE]


def test_an_input_is_never_replaced(tmp_path):
    write_folder(tmp_path / "in")
    for source in (tmp_path / "in", tmp_path / "in" / "table.tsv"):
        with (
            raises_user_error("output-contains-input", source),
            atomic_folder(tmp_path / "x" / ".." / "in", "features", source),
        ):
            pass
    assert names(tmp_path) == ["in"]


def test_the_output_of_another_stage_is_not_replaced(tmp_path):
    write_folder(tmp_path / "out", "simulate")
    (tmp_path / "out" / "data_file.tsv").touch()
    with raises_user_error("output-not-empty", "'simulate'", "preprocess"):
        write_folder(tmp_path / "out")
    assert names(tmp_path / "out") == ["data_file.tsv", SUMMARY_FILE]


def test_a_folder_with_other_files_is_not_replaced(tmp_path):
    (tmp_path / "thesis").touch()
    with raises_user_error("output-not-empty", tmp_path, SUMMARY_FILE):
        write_folder(tmp_path)
    assert names(tmp_path) == ["thesis"]


def test_a_file_is_not_replaced_by_a_folder(tmp_path):
    (tmp_path / "thesis").touch()
    with raises_user_error("output-not-empty", tmp_path / "thesis"):
        write_folder(tmp_path / "thesis")


def test_an_exception_leaves_no_folder(tmp_path):
    def fail_half_way():
        with atomic_folder(tmp_path / "out", "features") as temporary:
            (temporary / SUMMARY_FILE).touch()
            raise KeyError

    with pytest.raises(KeyError):
        fail_half_way()
    assert names(tmp_path) == []


def test_a_stage_adds_only_to_an_empty_folder_or_its_own(tmp_path):
    refuse_foreign_folder(tmp_path / "new", "finetune", "grid.json")
    (tmp_path / ".hidden").touch()
    refuse_foreign_folder(tmp_path, "finetune", "grid.json")
    (tmp_path / "thesis").touch()
    with raises_user_error("output-not-empty", tmp_path, "finetune", "grid.json", "--output"):
        refuse_foreign_folder(tmp_path, "finetune", "grid.json")
    (tmp_path / "grid.json").touch()
    refuse_foreign_folder(tmp_path, "finetune", "grid.json")


def test_changed_settings_are_refused_by_name(tmp_path):
    refuse_changed_settings(tmp_path, [])
    with raises_user_error("output-of-other-settings", tmp_path, "cohort, tuning"):
        refuse_changed_settings(tmp_path, ["cohort", "tuning"])


def test_json_is_read_as_it_was_written(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1, None]})
    assert read_json(tmp_path / "a.json") == {"b": [1, None]}


@pytest.mark.parametrize(
    ("content", "key"), [(None, "unreadable-file"), ("{", "invalid-json"), ("[]", "invalid-json")]
)
def test_a_file_without_a_json_object_is_refused(tmp_path, content, key):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_text(content)
    with raises_user_error(key, path):
        read_json(path)


def test_nan_becomes_null_in_json():
    assert json.dumps(nan_to_none({"auroc": math.nan, "brier": 0.25})) == '{"auroc": null, "brier": 0.25}'
