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


@pytest.mark.parametrize("processes", [2, 7])
def test_ctrl_c_ends_the_processes_without_a_traceback(processes: int) -> None:
    """With 7 processes, some are still starting when the first result arrives."""
    program = (
        "import sys, time\n"
        "from ehr_bert.processes import Processes\n"
        "from ehr_bert.programs import exit_status\n"
        "if __name__ == '__main__':\n"
        "    def run():\n"
        f"        for second in Processes({processes})(time.sleep, [0] + 9 * [60]):\n"
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
    assert process.stdout.readline() == "done\n"
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, errors = process.communicate(timeout=50)
    assert (process.returncode, errors) == (130, "program: interrupted. [interrupted]\n")


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
