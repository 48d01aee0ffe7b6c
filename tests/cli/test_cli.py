import subprocess
import sys

import pytest

from ehr_bert.cli import COMMANDS, main

HEAVY = ("tensorflow", "torch", "transformers", "duckdb", "pandas", "pyarrow", "pyspark")


def test_help_imports_nothing_heavy():
    program = (
        "import sys\nfrom ehr_bert.cli import parser\nparser().format_help()\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("stage", COMMANDS)
def test_every_stage_tells_its_arguments(stage, capsys):
    with pytest.raises(SystemExit) as end:
        main([stage, "--help"])
    assert end.value.code == 0
    assert f"usage: ehr-bert {stage}" in capsys.readouterr().out


def test_a_fault_the_user_can_mend_is_one_line_and_status_1(tmp_path, capsys):
    assert main(["preprocess", str(tmp_path / "none.tsv"), str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("ehr-bert preprocess: ")
    assert "none.tsv doesn't exist" in error
    assert len(error.splitlines()) == 1


def test_a_place_that_can_t_be_written_is_one_line_and_status_1(tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("a\tb\n")
    assert main(["preprocess", str(file), str(file / "out")]) == 1
    assert capsys.readouterr().err == (
        f"ehr-bert preprocess: {file} can't be written or read: File exists: name another place\n"
    )


def test_an_unknown_stage_is_status_2(capsys):
    with pytest.raises(SystemExit) as end:
        main(["pretain"])
    assert end.value.code == 2
    assert "invalid choice: 'pretain'" in capsys.readouterr().err
