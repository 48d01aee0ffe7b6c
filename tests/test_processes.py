import math
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


def test_ctrl_c_ends_the_processes_without_a_traceback() -> None:
    program = (
        "import os, signal, sys, time\n"
        "from ehr_bert.processes import Processes\n"
        "from ehr_bert.programs import exit_status\n"
        "if __name__ == '__main__':\n"
        "    def run():\n"
        "        for second in Processes(2)(time.sleep, [0, 0, 60, 60]):\n"
        "            print('done', flush=True)\n"
        "    sys.exit(exit_status('program', run))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["done\n"] * 2
    time.sleep(6)  # one process may have done both tasks while Python still started in the other
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, errors = process.communicate(timeout=50)
    assert (process.returncode, errors) == (130, "program: interrupted. [interrupted]\n")
