"""Quiet TensorFlow, and one thread a library, since the tests run side by side."""

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from ehr_bert.engines import DuckDBEngine

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# A busy machine is no fault; and in CI the same commit gives the same verdict.
hypothesis.settings.register_profile("tests", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("tests")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[DuckDBEngine]:
    with DuckDBEngine(tmp_path, memory_limit="1GB", threads=2) as opened:
        yield opened
