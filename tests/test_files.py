import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ehr_bert.files import (
    CHECKPOINT_FILE,
    SUMMARY_FILE,
    ScratchFolder,
    atomic_files,
    atomic_folder,
    linked_path,
    locked_folder,
    nan_to_none,
    read_json,
    refuse_changed_settings,
    refuse_foreign_folder,
    remove_leftovers,
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


def run_killed(folder, block):
    """Run a block of `ehr_bert.files` in a process that is killed within it."""
    program = f"import os\nfrom pathlib import Path\nfrom ehr_bert.files import *\n{block}"
    with subprocess.Popen([sys.executable, "-c", program], cwd=folder) as process:
        process.wait()
    assert process.returncode == -signal.SIGKILL


KILL = "os.kill(os.getpid(), 9)"


def test_temporary_files_of_a_killed_run_are_removed(tmp_path):
    run_killed(tmp_path, f"with atomic_files(Path('a')) as (a,): a.write_text('half'); {KILL}")
    assert len(names(tmp_path)) == 2
    with atomic_files(tmp_path / "a") as (a,):
        assert not a.exists()
        a.write_text("complete")
    assert names(tmp_path) == ["a"]


def test_one_file_is_not_written_twice_at_once(tmp_path):
    with atomic_files(tmp_path / "a") as (a,):
        a.write_text("first")
        with raises_user_error("output-in-use", tmp_path / "a"), atomic_files(tmp_path / "b", tmp_path / "a"):
            pass
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "first"


def test_a_link_to_a_file_stays(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "a").symlink_to("disk/b")
    for text in ("dangling", "replaced"):
        with atomic_files(tmp_path / "a") as (a,):
            a.write_text(text)
        assert (tmp_path / "a").is_symlink()
        assert (tmp_path / "disk" / "b").read_text() == text
    assert names(tmp_path / "disk") == ["b"]


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


def test_one_folder_is_not_written_twice_at_once(tmp_path):
    with atomic_folder(tmp_path / "out", "preprocess") as temporary:
        with raises_user_error("output-in-use", tmp_path / "out", os.getpid()):
            write_folder(tmp_path / "out")
        write_json(temporary / SUMMARY_FILE, {"run": 1})
    assert read_json(tmp_path / "out" / SUMMARY_FILE)["run"] == 1
    assert names(tmp_path) == ["out"]


def test_a_link_and_its_folder_are_one_output(tmp_path):
    (tmp_path / "link").symlink_to("out")
    with (
        atomic_folder(tmp_path / "out", "preprocess") as temporary,
        raises_user_error("output-in-use", tmp_path / "link"),
    ):
        write_json(temporary / SUMMARY_FILE, {})
        write_folder(tmp_path / "link")


@pytest.mark.parametrize("exists", [True, False])
def test_the_folder_that_a_link_points_to_is_replaced(tmp_path, exists):
    (tmp_path / "disk").mkdir()
    if exists:
        (tmp_path / "disk" / "out").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "out")
    for _ in range(2):
        write_folder(tmp_path / "out")
        assert (tmp_path / "out").is_symlink()
        assert names(tmp_path / "disk" / "out") == [SUMMARY_FILE]
    assert names(tmp_path) == ["disk", "out"]
    assert names(tmp_path / "disk") == ["out"]


@pytest.mark.parametrize("output", ["link", "link/out", "loop", "loop/out"])
def test_a_link_into_a_missing_folder_is_reported(tmp_path, output):
    (tmp_path / "link").symlink_to("unmounted/folder")
    (tmp_path / "loop").symlink_to("loop")
    for write in (write_folder, linked_path, lambda path: locked_folder(path).__enter__()):
        with raises_user_error("broken-link", tmp_path / output.split("/")[0]):
            write(tmp_path / output)
    assert names(tmp_path) == ["link", "loop"]


@pytest.mark.parametrize("name", ["out", "g[1]", "a*b?", "back\\slash", " space ", "ü\n", "-x", "a.partial"])
def test_odd_names_of_folders_are_literal(tmp_path, name):
    (tmp_path / "neighbour").mkdir()
    run_killed(tmp_path, f"with atomic_folder(Path({name!r}), 'preprocess'): {KILL}")
    write_folder(tmp_path / name)
    write_folder(tmp_path / name)
    assert names(tmp_path) == sorted(["neighbour", name])


def test_what_a_killed_process_left_is_removed_by_the_next_output_beside_it(tmp_path):
    block = (
        "with atomic_files(Path('file')) as (file,), atomic_folder(Path('other'), 'preprocess') as folder,"
        "ScratchFolder(Path(), 'duckdb') as scratch:\n"
        f"    file.touch(); (folder / 'rows').touch(); (scratch / 'rows').touch(); {KILL}"
    )
    run_killed(tmp_path, block)
    assert len(names(tmp_path)) == 6
    write_folder(tmp_path / "out")
    assert names(tmp_path) == ["out"]


def test_what_live_processes_write_is_kept(tmp_path):
    with (
        ScratchFolder(tmp_path, "spark") as scratch,
        atomic_folder(tmp_path / "other", "preprocess") as other,
        atomic_files(tmp_path / "file") as (file,),
    ):
        file.touch()
        write_folder(tmp_path / "out")
        assert scratch.exists()
        assert other.exists()
        assert file.exists()
        write_json(other / SUMMARY_FILE, {})
    assert names(tmp_path) == ["file", "other", "out"]


def test_the_earlier_output_survives_a_kill_while_it_is_replaced(tmp_path):
    write_folder(tmp_path / "out")
    (tmp_path / "out" / "rows").touch()
    block = (
        "rename = Path.rename\n"
        f"Path.rename = lambda a, b: (rename(a, b), {KILL})\n"
        "with atomic_folder(Path('out'), 'preprocess') as f: write_json(f / SUMMARY_FILE, {})"
    )
    run_killed(tmp_path, block)
    assert not (tmp_path / "out").exists()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["rows", SUMMARY_FILE]


def test_the_earlier_output_is_restored_if_it_cannot_be_replaced(tmp_path, monkeypatch):
    write_folder(tmp_path / "out")
    (tmp_path / "out" / "rows").touch()
    rename = Path.rename

    def failing(path, target):
        if path.name.endswith(".partial"):
            raise OSError("disk removed")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="disk removed"):
        write_folder(tmp_path / "out")
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["rows", SUMMARY_FILE]


def test_a_folder_that_grows_is_used_by_one_process(tmp_path):
    with locked_folder(tmp_path / "runs"):
        (tmp_path / "runs" / "run").touch()
        with raises_user_error("output-in-use", tmp_path / "runs"), locked_folder(tmp_path / "runs"):
            pass
    assert names(tmp_path / "runs") == ["run"]


def test_a_folder_to_which_nothing_is_added_is_removed(tmp_path):
    with locked_folder(tmp_path / "runs"):
        assert (tmp_path / "runs").is_dir()
    assert names(tmp_path) == []


def test_a_scratch_folder_is_private_and_removed(tmp_path):
    with ScratchFolder(tmp_path / "deep", "copied") as scratch:
        assert scratch.stat().st_mode & 0o777 == 0o700
        (scratch / "rows").touch()
    assert names(tmp_path / "deep") == []


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
