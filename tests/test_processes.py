import math

import pytest

from ehr_bert.processes import Processes


@pytest.mark.parametrize("count", [1, 2, None])
def test_results_come_in_the_order_of_the_tasks(count: int | None) -> None:
    assert list(Processes(count)(math.factorial, [3, 1, 4, 2])) == [6, 1, 24, 2]


def test_no_task_has_no_result() -> None:
    assert list(Processes(2)(math.factorial, [])) == []
