import os
import signal
import sys
import threading
import time

import pytest

from ehr_bert.launching import processes
from ehr_bert.launching.processes import Process, run_together


def python(program: str, **others) -> Process:
    return Process([sys.executable, "-c", program], **others)


def ending_with(status: int, seconds: float = 0.0) -> Process:
    return python(f"import time, sys; time.sleep({seconds}); sys.exit({status})")


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [((0, 0), 0), ((0, 75), 75), ((75, 75), 75), ((0, 3), 3), ((75, 3), 3), ((1,), 1)],
)
def test_the_status_is_that_of_the_first_failure_or_75_after_an_interruption(statuses, expected):
    assert run_together([ending_with(status) for status in statuses]) == expected


def test_a_process_that_has_saved_does_not_end_one_that_still_saves(tmp_path):
    slow = python(f"import time; time.sleep(0.5); open({str(tmp_path / 'saved')!r}, 'w')")
    assert run_together([ending_with(75), slow]) == 75
    assert (tmp_path / "saved").exists()


def test_a_failed_process_ends_those_that_wait_for_it(monkeypatch):
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.2)
    start = time.monotonic()
    assert run_together([ending_with(0, seconds=60), ending_with(2)]) == 2
    assert time.monotonic() - start < 30


def test_a_killed_process_counts_as_failed(monkeypatch):
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.2)
    killed = python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert run_together([ending_with(0, seconds=60), killed]) == 128 + signal.SIGKILL


def test_a_signal_is_forwarded_to_all(tmp_path):
    saves = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
        "open({!r}, 'w').close()\n"
        "time.sleep(60)"
    )
    ready = [tmp_path / name for name in "ab"]

    def stop():
        while not all(file.exists() for file in ready):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=stop).start()
    assert run_together([python(saves.format(str(file))) for file in ready]) == 75
    assert signal.getsignal(signal.SIGTERM) is before


def test_output_is_appended_to_the_log_and_variables_are_set(tmp_path):
    log = tmp_path / "log"
    program = "import os, sys; print(os.environ['MINE'], os.environ['HOME']); sys.stderr.write('error\\n')"
    for _ in range(2):
        assert run_together([python(program, environment={"MINE": "mine"}, log=log)]) == 0
    assert sorted(log.read_text().split("\n")) == ["", "error", "error", *[f"mine {os.environ['HOME']}"] * 2]


def test_a_missing_program_leaves_no_other_process_running():
    start = time.monotonic()
    with pytest.raises(FileNotFoundError):
        run_together([ending_with(0, seconds=60), Process(["/nowhere/at-all"])])
    assert time.monotonic() - start < 30
