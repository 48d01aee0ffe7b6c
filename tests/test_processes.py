import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from ehr_bert.processes import Processes


@pytest.mark.parametrize("count", [1, 2, None])
def test_results_come_in_the_order_of_the_tasks(count: int | None) -> None:
    assert list(Processes(count)(math.factorial, [3, 1, 4, 2])) == [6, 1, 24, 2]


def test_no_task_has_no_result() -> None:
    assert list(Processes(2)(math.factorial, [])) == []


PROGRAM = """
import sys, time
from ehr_bert.processes import Processes
from ehr_bert.programs import exit_status
if __name__ == "__main__":
    def run():
        for second in Processes(PROCESSES)(time.sleep, [0] + 9 * [600]):
            print("done", flush=True)
    sys.exit(exit_status("program", run))
"""


def started(processes: int) -> subprocess.Popen[str]:
    """Start a program that sleeps in several processes, and wait for the first result."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.replace("PROCESSES", str(processes))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "done\n"
    return process


@pytest.mark.parametrize("processes", [2, 7])
def test_ctrl_c_ends_the_processes_without_a_traceback(processes: int) -> None:
    """With 7 processes, some are still starting when the first result arrives."""
    process = started(processes)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, errors = process.communicate(timeout=50)
    assert (process.returncode, errors) == (130, "program: interrupted. [interrupted]\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_processes_end_with_the_program(number: signal.Signals) -> None:
    process = started(2)
    process.send_signal(number)
    process.communicate(timeout=50)  # ends when no process has the program's output open any more
    assert process.returncode == (143 if number == signal.SIGTERM else -number)


def test_a_task_that_fails_cancels_the_others() -> None:
    results = Processes(2)(math.sqrt, [4, -1, *[9] * 50])
    assert next(iter(results)) == 2
    with pytest.raises(ValueError, match=r"math domain error|nonnegative"):
        list(results)


def test_processes_end_when_no_more_results_are_wanted() -> None:
    results = Processes(2)(time.sleep, [0, *[3600] * 20])
    assert next(results) is None
    results.close()
    assert not multiprocessing.active_children()
