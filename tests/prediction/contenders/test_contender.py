# Covers: ehr_bert.prediction.contenders.on_bert, ehr_bert.prediction.contenders.from_scratch

from pathlib import Path

import pytest

from ehr_bert import prediction
from ehr_bert.cohorts import shortcuts
from ehr_bert.prediction.contenders.contender import (
    CONTENDERS,
    contender,
    default_contenders,
    table_position,
    with_needs,
)
from ehr_bert.prediction.heads import HEADS
from ehr_bert.schemas import OBSERVATION
from tests.user_errors import raises_user_error

LINEAR = ["logistic_regression", "logistic_regression_counts", "logistic_regression_demographics"]


@pytest.mark.parametrize("head", HEADS)
def test_default_contenders_are_in_the_order_of_the_table(head):
    names = default_contenders(head)
    assert names == [
        *(*LINEAR, "boosting", "gru", "bigru", "retain"),
        *(f"untrained_{head}", f"frozen_{head}", f"pretrained_{head}", f"stack_{head}"),
    ]
    assert sorted(names, key=table_position) == names


def test_members_of_a_family_are_in_the_order_of_the_heads():
    names = [f"{family}_{head}" for family in ("untrained", "stack") for head in HEADS]
    assert sorted(sorted(names), key=table_position) == names


def test_baselines_make_no_use_of_the_pretraining():
    baselines = [name for name in default_contenders("mean") if contender(name).is_baseline]
    assert baselines == [*LINEAR, "boosting", "gru", "bigru", "retain", "untrained_mean"]
    readers = [name for name in default_contenders("mean") if contender(name).reads_export]
    assert readers == ["untrained_mean", "frozen_mean", "pretrained_mean"]


def test_no_contender_or_feature_reads_observation_or_death():
    """A cohort in memory has no such columns either, see `test_cohort.py`."""
    modules = [*Path(prediction.__file__).parent.rglob("*.py"), Path(shortcuts.__file__)]
    assert len(modules) > 40
    for module in modules:
        text = module.read_text(encoding="utf-8")
        assert not [name for name in OBSERVATION.names if name in text], module


@pytest.mark.parametrize("name", ["oracle", "frozen", "frozen_HEAD", "frozen_max", "boosting_mean"])
def test_unknown_names_are_refused(name):
    for lookup in (contender, table_position):
        with raises_user_error("unknown-contender", repr(name), *CONTENDERS, *HEADS):
            lookup(name)


def test_needed_contenders_are_added_before_those_that_need_them():
    assert with_needs(["stack_cls", "boosting"]) == ["boosting", *LINEAR, "pretrained_cls", "stack_cls"]
    assert with_needs(["boosting", "boosting"]) == ["boosting"]
