"""What commands do with their output: locks and links."""

import os
import re
import signal
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


def stopped(number: int, function: str, *arguments: object) -> subprocess.CompletedProcess:
    """Run a command in a process that gets a signal when it calls a function, such as `module:name`."""
    module, name = function.split(":")
    program = (
        "import importlib, os, sys\nfrom ehr_bert.cli import main\n"
        f"module = importlib.import_module({module!r})\ncalled = module.{name}\n"
        f"module.{name} = lambda *a, **k: (os.kill(os.getpid(), {int(number)}), called(*a, **k))[1]\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


SEQUENCES, EXTRACTION = "ehr_bert.sequences.folder", "ehr_bert.sources.extraction"


@pytest.mark.parametrize(
    "function",
    [
        f"{SEQUENCES}:summarise_preprocessing",
        pytest.param(f"{SEQUENCES}:read_events", marks=pytest.mark.slow),
        pytest.param(f"{SEQUENCES}:build_histories", marks=pytest.mark.slow),
        pytest.param(f"{SEQUENCES}:write_rejected", marks=pytest.mark.slow),
        pytest.param("ehr_bert.files:_replace_folder", marks=pytest.mark.slow),
    ],
)
def test_a_stopped_or_killed_preprocess_leaves_nothing(table: Path, tmp_path: Path, function: str) -> None:
    ended = stopped(signal.SIGTERM, function, "preprocess", table, tmp_path / "out")
    assert ended.returncode == 143
    assert ended.stderr.splitlines()[-1] == "ehr-bert preprocess: interrupted by SIGTERM. [interrupted]"
    assert "Traceback" not in ended.stderr
    assert left_in(tmp_path) == ["table.tsv"]
    killed = stopped(signal.SIGKILL, function, "preprocess", table, tmp_path / "out")
    assert killed.returncode == -signal.SIGKILL
    process = started("preprocess", table, tmp_path / "out")
    process.communicate()
    assert process.returncode == 0
    assert left_in(tmp_path) == ["out", "table.tsv"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["checked_diagnoses", "patient_rows", "rejected_rows", "summarise_extraction"]
)
def test_a_stopped_or_killed_extract_leaves_nothing(tmp_path: Path, name: str) -> None:
    table = tmp_path / "store.csv"
    table.write_text(
        "patient,code,visit,admitted,left\n1,ICD9_250.00,1,2020-01-01,2020-01-02\n2,,2,2020-01-01,2020-01-02\n"
    )
    columns = tmp_path / "columns.toml"
    columns.write_text(
        '[columns]\npatient_id = "patient"\ncode = "code"\nadmit_date = "admitted"\ndischarge_date = "left"\n'
    )
    arguments = ("extract", table, tmp_path / "out", "--from", "table", "--columns", columns)
    ended = stopped(signal.SIGTERM, f"{EXTRACTION}:{name}", *arguments)
    assert ended.returncode == 143, ended.stderr
    assert left_in(tmp_path) == ["columns.toml", "store.csv"]
    assert stopped(signal.SIGKILL, f"{EXTRACTION}:{name}", *arguments).returncode == -signal.SIGKILL
    process = started(*arguments)
    process.communicate()
    assert process.returncode == 0
    assert left_in(tmp_path) == ["columns.toml", "out", "store.csv"]
