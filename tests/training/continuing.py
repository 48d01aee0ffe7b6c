"""Trainings that continue from a model, as short as can be."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ehr_bert.training.flops import ProductRate
from ehr_bert.training.recipe import Phase, Recipe
from ehr_bert.training.request import PretrainingRequest
from tests.training.test_execution import CODES, CONFIG

STILL = Phase(batch_patients=5, steps=1, learning_rate=0.0)
UNUSED = 4
"""Rows of the parent that stand for no token."""


def recipe_of(**changes) -> Recipe:
    """One update, which changes nothing."""
    return dataclasses.replace(Recipe(phases=(STILL,), compile=False, precision="float32"), **changes)


PARENT = recipe_of(
    model=dataclasses.replace(CONFIG, vocab_size=CODES + 5 + UNUSED),
    phases=(dataclasses.replace(STILL, steps=4, learning_rate=1e-2),),
)


def continued(asked: PretrainingRequest, output: Path, init: Path, **changes) -> PretrainingRequest:
    """One update on the same examples, with the first weights from `init`."""
    return dataclasses.replace(asked, **{"output": output, "recipe": recipe_of(init=str(init))} | changes)


@contextmanager
def fast_runs() -> Iterator[None]:
    """Within it nobody measures how fast this machine multiplies."""
    with pytest.MonkeyPatch.context() as patch:
        rate = ProductRate(flops_per_second=1e12, shape=(1, 1, 1), compiled=False)
        patch.setattr("ehr_bert.training.summary.measured_flops_per_second", lambda *_: rate)
        yield
