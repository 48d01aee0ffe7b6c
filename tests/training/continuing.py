"""Short trainings that are initialised from a model."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ehr_bert.training.flops import ProductRate
from ehr_bert.training.recipe import Phase, Recipe
from ehr_bert.training.request import PretrainingRequest
from tests.training.small import CODES, CONFIG

STILL = Phase(batch_patients=5, steps=1, learning_rate=0.0)
UNUSED = 4
"""Rows of the parent without a token."""


def recipe_of(**changes) -> Recipe:
    """Return a recipe of one update that changes no weight."""
    return dataclasses.replace(Recipe(phases=(STILL,), compile=False, precision="float32"), **changes)


PARENT = recipe_of(
    model=dataclasses.replace(CONFIG, vocab_size=CODES + 5 + UNUSED),
    phases=(dataclasses.replace(STILL, steps=4, learning_rate=1e-2),),
)


def continued(request: PretrainingRequest, output: Path, init: Path, **changes) -> PretrainingRequest:
    """Return a request of one update on the same examples, initialised from `init`."""
    return dataclasses.replace(request, **{"output": output, "recipe": recipe_of(init=str(init))} | changes)


@contextmanager
def fast_runs() -> Iterator[None]:
    """Skip the measurement of the device's speed, which takes longer than these trainings."""
    with pytest.MonkeyPatch.context() as patch:
        rate = ProductRate(flops_per_second=1e12, shape=(1, 1, 1), compiled=False)
        patch.setattr("ehr_bert.training.summary.measured_flops_per_second", lambda *_: rate)
        yield
