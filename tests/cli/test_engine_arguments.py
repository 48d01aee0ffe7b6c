import argparse
import sys

import pytest

from ehr_bert.cli.engine_arguments import (
    add_engine_arguments,
    add_task_arguments,
    opened_engine,
    opened_task_runner,
)
from ehr_bert.processes import Processes
from tests.user_errors import raises_user_error


def parsed(add_arguments, *arguments):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(arguments)


def test_the_default_engine_is_duckdb_with_its_own_limits(tmp_path):
    arguments = parsed(add_engine_arguments)
    assert (arguments.memory_limit, arguments.threads) == (None, None)
    with opened_engine(arguments, tmp_path) as engine:
        assert type(engine).__name__ == "DuckDBEngine"


def test_an_invalid_memory_limit_is_a_user_error(tmp_path):
    with raises_user_error("invalid-engine-setting", "much"):
        opened_engine(parsed(add_engine_arguments, "--memory-limit", "much"), tmp_path)


def test_tasks_run_in_processes_by_default(tmp_path):
    with opened_task_runner(parsed(add_task_arguments, "--processes", "1"), tmp_path) as run:
        assert isinstance(run, Processes)
        assert list(run(abs, [-1, 2])) == [1, 2]


@pytest.mark.parametrize("module", ["pyspark", "ehr_bert.engines.spark"])
def test_spark_without_its_package_is_a_user_error(tmp_path, monkeypatch, module):
    monkeypatch.delitem(sys.modules, "ehr_bert.engines.spark", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with raises_user_error("missing-package", "ehr-bert[spark]"):
        opened_engine(parsed(add_engine_arguments, "--engine", "spark"), tmp_path)


def test_spark_configuration_is_name_and_value(capsys):
    arguments = parsed(add_engine_arguments, "--spark-conf", "a=b=c", "--spark-conf", "d=")
    assert arguments.spark_conf == [("a", "b=c"), ("d", "")]
    with pytest.raises(SystemExit):
        parsed(add_engine_arguments, "--spark-conf", "a")
    assert "NAME=VALUE" in capsys.readouterr().err
