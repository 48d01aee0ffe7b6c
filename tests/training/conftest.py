from pathlib import Path
from typing import NamedTuple

import pytest

from ehr_bert.training.execution import PretrainingResult, pretrain
from ehr_bert.training.request import PretrainingRequest


class Parent(NamedTuple):
    asked: PretrainingRequest
    outcome: PretrainingResult

    @property
    def folder(self) -> Path:
        return self.asked.output


@pytest.fixture(scope="session")
def parent(tmp_path_factory) -> Parent:
    """A training on packed examples, for all tests that continue from one."""
    from tests.training.continuing import PARENT, fast_runs
    from tests.training.test_execution import write_packed

    folder = tmp_path_factory.mktemp("parent")
    asked = PretrainingRequest([write_packed(folder, 7, 13)], folder / "D", PARENT)
    with fast_runs():
        return Parent(asked, pretrain(asked))
