import dataclasses
import logging
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from ehr_bert.logs import log_level
from ehr_bert.training.execution import PretrainingResult, pretrain
from ehr_bert.training.request import PretrainingRequest


class Parent(NamedTuple):
    request: PretrainingRequest
    outcome: PretrainingResult

    @property
    def folder(self) -> Path:
        return self.request.output


@pytest.fixture(scope="session")
def parent(tmp_path_factory) -> Parent:
    """A training on packed examples, for all tests that initialise from one."""
    from tests.training.continuing import PARENT, fast_runs
    from tests.training.small import write_packed

    folder = tmp_path_factory.mktemp("parent")
    request = PretrainingRequest([write_packed(folder, 7, 13)], folder / "D", PARENT)
    with fast_runs():
        return Parent(request, pretrain(request))


@dataclasses.dataclass(frozen=True)
class Trained:
    """A training of `request_for(folder)`, with its log and the keys of its warnings."""

    folder: Path
    outcome: PretrainingResult
    log: str
    warnings: list[str]


@pytest.fixture(scope="session")
def once(tmp_path_factory) -> Trained:
    """A training on tutorial examples, for all tests that need one."""
    from tests.training.continuing import fast_runs
    from tests.training.small import request_for

    folder = tmp_path_factory.mktemp("trained")
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logger = logging.getLogger("ehr_bert")
    logger.addHandler(handler)
    with log_level(logging.INFO), fast_runs():
        outcome = pretrain(request_for(folder))
    logger.removeHandler(handler)
    log = "".join(f"{record.getMessage()}\n" for record in records)
    return Trained(folder, outcome, log, [record.key for record in records if hasattr(record, "key")])


@pytest.fixture
def trained(tmp_path, once) -> Trained:
    """A copy of that training."""
    shutil.copytree(once.folder, tmp_path, dirs_exist_ok=True)
    return dataclasses.replace(once, folder=tmp_path)
