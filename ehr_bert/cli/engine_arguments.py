"""Arguments that select the engine of relational computations."""

import argparse
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ehr_bert.cli.counts import count

if TYPE_CHECKING:
    from ehr_bert.engines import Engine
    from ehr_bert.engines.spark import SparkEngine
    from ehr_bert.processes import TaskRunner


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a command that computes on tables."""
    group = parser.add_argument_group("engine")
    group.add_argument(
        "--engine", choices=("duckdb", "spark"), default="duckdb", help="DuckDB in this process, or Spark"
    )
    group.add_argument(
        "--memory-limit",
        metavar="SIZE",
        help="memory limit of DuckDB, such as 8GB; by default 80%% of the machine's memory",
    )
    group.add_argument(
        "--threads", type=count, metavar="N", help="threads of DuckDB; by default one per core"
    )
    _add_spark_arguments(group)


def opened_engine(arguments: argparse.Namespace, scratch: Path) -> "AbstractContextManager[Engine]":
    """Open the engine that the arguments select.

    Args:
        arguments: Parsed arguments of `add_engine_arguments`.
        scratch: Folder for temporary files of the engine.

    Raises:
        UserError: The engine is not installed (key `missing-package`) or does not start
            (`spark-start-failed`, `invalid-engine-setting`).
    """
    if arguments.engine == "spark":
        return _spark(arguments, scratch)
    from ehr_bert.engines import DuckDBEngine

    return DuckDBEngine(scratch, arguments.memory_limit, arguments.threads)


def add_task_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a command that runs independent tasks."""
    group = parser.add_argument_group("engine")
    group.add_argument(
        "--engine",
        choices=("processes", "spark"),
        default="processes",
        help="processes on this machine, or Spark, with one task per input file",
    )
    group.add_argument(
        "--processes",
        type=count,
        metavar="N",
        help="number of processes; by default one per core, or fewer for few files",
    )
    _add_spark_arguments(group)


@contextmanager
def opened_task_runner(arguments: argparse.Namespace, scratch: Path) -> "Iterator[TaskRunner]":
    """Open the task runner that the arguments of `add_task_arguments` select. See `opened_engine`."""
    if arguments.engine == "spark":
        with _spark(arguments, scratch) as engine:
            yield engine.run
    else:
        from ehr_bert.processes import Processes

        yield Processes(arguments.processes)


def _add_spark_arguments(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--spark-master",
        default="local[*]",
        metavar="URL",
        help="master URL of Spark; local[*] uses all cores of this machine",
    )
    group.add_argument(
        "--spark-conf",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="Spark configuration, such as spark.driver.memory=16g; may be repeated",
    )


def _spark(arguments: argparse.Namespace, scratch: Path) -> "SparkEngine":
    try:
        from ehr_bert.engines.spark import SparkEngine
    except ImportError as error:
        from ehr_bert.errors import UserError

        raise UserError(
            "missing-package",
            f"--engine spark requires an optional package ({error}). Run pip install 'ehr-bert[spark]'.",
        ) from error
    return SparkEngine(scratch, arguments.spark_master, dict(arguments.spark_conf))


def _setting(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not name or not separator:
        raise argparse.ArgumentTypeError(f"{text!r} does not have the form NAME=VALUE")
    return name, value
