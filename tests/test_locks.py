import errno
import fcntl
import json
import os
import subprocess
import sys

import pytest

from ehr_bert.locks import LOCK_SUFFIX, Holder, lock_of_dead_process, locked
from tests.user_errors import raises_user_error, warning_keys


@pytest.fixture
def lock_file(tmp_path):
    return tmp_path / f".out{LOCK_SUFFIX}"


def test_the_file_names_this_process_and_is_removed(lock_file, tmp_path):
    with locked(lock_file, tmp_path / "out") as killed:
        assert killed is None
        holder = Holder(**json.loads(lock_file.read_text()))
        assert holder.pid == os.getpid()
        assert holder.is_on_this_machine
    assert list(tmp_path.iterdir()) == []


def test_a_second_lock_is_refused_with_the_process_and_time_of_the_first(lock_file, tmp_path):
    with locked(lock_file, tmp_path / "out"):
        since = json.loads(lock_file.read_text())["since"]
        with (
            raises_user_error("output-in-use", tmp_path / "out", f"process {os.getpid()} on", since),
            locked(lock_file, tmp_path / "out"),
        ):
            pass
        assert lock_file.exists()


def test_an_exception_frees_the_lock(lock_file, tmp_path):
    def fail():
        with locked(lock_file, tmp_path):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with locked(lock_file, tmp_path):
        pass


def killed_holder(lock_file):
    """Take a lock in a process that is killed, and return its id."""
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom ehr_bert.locks import locked\n"
        "with locked(Path(sys.argv[1]), Path('x')): os.kill(os.getpid(), 9)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(lock_file)]) as process:
        process.wait()
    return process.pid


def test_the_lock_of_a_killed_process_is_taken_over(lock_file, tmp_path):
    pid = killed_holder(lock_file)
    with locked(lock_file, tmp_path) as killed:
        assert killed.pid == pid
        assert killed.is_on_this_machine
    assert not lock_file.exists()


def test_the_lock_of_a_killed_process_is_recognised(lock_file):
    killed_holder(lock_file)
    with lock_of_dead_process(lock_file) as is_dead:
        assert is_dead
    assert not lock_file.exists()


def test_the_lock_of_a_live_process_is_left_alone(lock_file, tmp_path):
    with locked(lock_file, tmp_path):
        with lock_of_dead_process(lock_file) as is_dead:
            assert not is_dead
        assert lock_file.exists()


@pytest.mark.parametrize("content", ["", "[1]", '{"pid": 1}', None])
def test_a_file_that_is_no_lock_is_left_alone(lock_file, content):
    if content is not None:
        lock_file.write_text(content)
    with lock_of_dead_process(lock_file) as is_dead:
        assert not is_dead
    assert lock_file.exists() == (content is not None)


def test_a_process_of_another_machine_is_never_taken_for_dead(lock_file):
    killed_holder(lock_file)
    record = json.loads(lock_file.read_text()) | {"host": "elsewhere", "boot": "another"}
    lock_file.write_text(json.dumps(record))
    with lock_of_dead_process(lock_file) as is_dead:
        assert not is_dead
    assert lock_file.exists()


def test_a_disk_without_locks_is_used_with_a_warning(lock_file, tmp_path, monkeypatch, caplog):
    def unsupported(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    killed_holder(lock_file)
    monkeypatch.setattr(fcntl, "flock", unsupported)
    with lock_of_dead_process(lock_file) as is_dead:
        assert not is_dead
    with locked(lock_file, tmp_path / "out") as killed:
        assert killed is None
    assert warning_keys(caplog) == ["no-file-locks"]


def test_other_errors_of_the_disk_are_raised(lock_file, tmp_path, monkeypatch):
    def failing(descriptor, operation):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", failing)
    with pytest.raises(OSError, match="Input/output"), locked(lock_file, tmp_path):
        pass
