# Covers: ehr_bert.cli
import argparse
import json
import logging
import subprocess
import sys

import pytest

from ehr_bert.cli import COMMAND_GROUPS, COMMANDS, DefaultsHelpFormatter, command_parser, main

HEAVY = (
    *("ibis", "torch", "tensorflow", "pandas", "sklearn", "pyarrow", "keras"),
    *("duckdb", "transformers", "scipy", "matplotlib", "lightgbm", "pyspark", "tqdm"),
)


def modules_after(program):
    """Names of the modules that a fresh process has imported after running a program."""
    code = f"import json, sys\nfrom ehr_bert.cli import command_parser, main\n{program}"
    code += "\njson.dump(sorted(sys.modules), sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr))


def test_help_lists_all_commands_and_imports_nothing_heavy():
    modules = modules_after("try: main(['--help'])\nexcept SystemExit: pass")
    assert modules.isdisjoint(HEAVY)
    assert {module for module in modules if module.startswith("ehr_bert.cli.")} == set()


def test_the_help_of_the_commands_imports_nothing_heavy():
    # The modules of the stores, whose options `extract` lists, import Ibis.
    names = [name for name in COMMANDS if name != "extract"]
    assert modules_after(f"for name in {names}: command_parser(name)").isdisjoint(HEAVY)


def test_the_help_lists_every_command_with_its_purpose(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    printed = capsys.readouterr().out
    for group in COMMAND_GROUPS:
        assert f"\n{group}:\n" in printed
    for name, purpose in COMMANDS.items():
        assert f"  {name} " in printed
        assert f" {purpose}\n" in printed


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_describes_its_arguments(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    printed = capsys.readouterr().out
    assert f"usage: ehr-bert {command}" in printed
    assert "--quiet" in printed
    assert "--verbose" in printed
    assert "(default: None)" not in printed


@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_that_is_not_given_is_none_or_a_default_that_the_help_shows(command):
    for action in command_parser(command)._actions:
        if action.dest != "help":
            assert action.default is not argparse.SUPPRESS
            assert action.default != ""


def test_the_help_shows_defaults_only_where_there_is_one():
    parser = argparse.ArgumentParser(formatter_class=DefaultsHelpFormatter)
    parser.add_argument("--zero", default=0, help="first")
    parser.add_argument("--unset", help="second")
    parser.add_argument("--flag", action="store_true", help="third")
    parser.add_argument("--list", action="append", default=[], help="fourth")
    printed = parser.format_help()
    assert "first (default: 0)" in printed
    assert printed.count("default") == 1


@pytest.mark.parametrize(
    ("options", "level"), [([], logging.INFO), (["--quiet"], logging.WARNING), (["--verbose"], logging.DEBUG)]
)
def test_the_verbosity_decides_what_is_logged(options, level, tmp_path):
    assert main(["preprocess", str(tmp_path / "none.tsv"), str(tmp_path / "out"), *options]) == 1
    assert logging.getLogger("ehr_bert.examples").getEffectiveLevel() == level


def test_an_error_that_the_user_can_fix_is_one_line_and_status_1(tmp_path, capsys):
    assert main(["preprocess", str(tmp_path / "none.tsv"), str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("ehr-bert preprocess: ")
    assert "none.tsv" in error
    assert error.endswith("]\n")
    assert len(error.splitlines()) == 1


def test_a_path_that_cannot_be_written_is_one_line_and_status_1(tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("a\tb\n")
    assert main(["preprocess", str(file), str(file / "out")]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"ehr-bert preprocess: cannot read or write {file}: File exists.")
    assert error.endswith("[os-error]\n")


@pytest.mark.parametrize("argv", [["pretain"], [], ["--unknown", "pretrain"]])
def test_wrong_arguments_end_with_status_2(argv, capsys):
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 2
    assert "usage: ehr-bert COMMAND" in capsys.readouterr().err
