# Covers: ehr_bert.programs
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ehr_bert import cli
from ehr_bert.cli import main
from ehr_bert.errors import UserError
from ehr_bert.programs import exit_status


def raises(error):
    def action():
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "status", "end"),
    [
        (UserError("some-key", "wrong."), 1, "wrong. [some-key]"),
        (OSError(28, "No space left on device", "out"), 1, "[os-error]"),
        (MemoryError(), 1, "[out-of-memory]"),
        (KeyboardInterrupt(), 130, "[interrupted]"),
        (RuntimeError("secret"), 70, "[internal-error]"),
        (RecursionError(), 70, "[internal-error]"),
    ],
)
def test_every_error_is_one_line_with_a_key(error, status, end, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert exit_status("program", raises(error)) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("program: ")
    assert line.endswith(end)
    assert "secret" not in line


def test_the_traceback_of_an_unexpected_error_is_saved_for_the_user_only(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(cli, "_module", lambda name: raises(AssertionError("\ud800 value"))())
    assert main(["plan"]) == 70
    named = re.search(r"Report (\S+\.log),", capsys.readouterr().err)
    file = Path(named[1])
    assert file.parent == tmp_path
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    text = file.read_text(encoding="utf-8")
    assert "Traceback" in text
    assert "value" in text


def test_a_traceback_that_cannot_be_saved_does_not_hide_the_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    assert exit_status("program", raises(RuntimeError())) == 70
    assert "cannot be saved" in capsys.readouterr().err


def test_an_exit_status_of_a_command_is_kept():
    with pytest.raises(SystemExit) as end:
        exit_status("program", lambda: sys.exit(75))
    assert end.value.code == 75


@pytest.mark.parametrize(
    ("number", "status", "reason"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "interrupted by SIGTERM"),
        (signal.SIGHUP, 129, "interrupted by SIGHUP"),
    ],
)
def test_a_signal_ends_a_command_with_one_line(number, status, reason):
    program = (
        "import sys, time, ehr_bert.cli as cli\n"
        "class Command:\n"
        "    add_arguments = staticmethod(lambda parser: None)\n"
        "    def run(self, arguments):\n"
        "        print('started', flush=True)\n"
        "        time.sleep(60)\n"
        "cli._module = lambda name: Command()\n"
        "sys.exit(cli.main(['plan']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "started\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (status, f"ehr-bert plan: {reason}. [interrupted]\n")


def test_another_error_after_a_signal_counts_as_the_interruption(capsys):
    def main():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt as error:
            raise RuntimeError("Query interrupted") from error

    before = signal.getsignal(signal.SIGTERM)
    assert exit_status("program", main) == 143
    assert capsys.readouterr().err == "program: interrupted by SIGTERM. [interrupted]\n"
    assert signal.getsignal(signal.SIGTERM) is before
