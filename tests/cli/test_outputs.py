"""What commands do with their output: locks and links."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ehr_bert.files import SUMMARY_FILE, atomic_folder, write_json
from tests.sequences.messy import messy_rows, write_tutorial_table


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_tutorial_table(tmp_path / "table.tsv", messy_rows(60, seed=3))


def started(*arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "ehr_bert", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_second_command_with_the_same_output_names_the_first(table: Path, tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "out", "preprocess") as first:
        second = started("preprocess", table, tmp_path / "out")
        _, errors = second.communicate()
        assert second.returncode == 1
        line = errors.splitlines()[-1]
        assert re.search(rf"process {os.getpid()} on \S+ since 20\d\d-.*\[output-in-use\]$", line)
        write_json(first / SUMMARY_FILE, {"first": True})
    assert left_in(tmp_path) == ["out", "table.tsv"]
    assert left_in(tmp_path / "out") == [SUMMARY_FILE]


def test_of_two_commands_at_once_one_or_both_succeed_and_nothing_is_left(table: Path, tmp_path: Path) -> None:
    both = [started("preprocess", table, tmp_path / "out", "--seed", seed) for seed in (1, 2)]
    errors = [process.communicate()[1] for process in both]
    for process, printed in zip(both, errors, strict=True):
        assert process.returncode == 0 or printed.splitlines()[-1].endswith("[output-in-use]")
    assert 0 in [process.returncode for process in both]
    assert left_in(tmp_path) == ["out", "table.tsv"]
    assert left_in(tmp_path / "out") == ["rejected.parquet", "sequences", SUMMARY_FILE, "vocabulary.tsv"]


def test_an_output_that_is_a_link_is_written_where_it_points_to(table: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    (tmp_path / "out").symlink_to(disk / "sequences")
    for _ in range(2):
        process = started("preprocess", table, tmp_path / "out")
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    assert (tmp_path / "out").is_symlink()
    assert left_in(disk) == ["sequences"]
    assert SUMMARY_FILE in left_in(disk / "sequences")
