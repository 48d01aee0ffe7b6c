"""The arguments that say where relational work runs, for every stage that has some."""

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
    """Adds the arguments."""
    group = parser.add_argument_group("where it is computed")
    group.add_argument(
        "--engine", choices=("duckdb", "spark"), default="duckdb", help="DuckDB in this process, or Spark"
    )
    group.add_argument(
        "--memory-limit",
        metavar="SIZE",
        help="DuckDB's memory, such as 8GB; without it 80%% of the machine's",
    )
    group.add_argument("--threads", type=count, metavar="N", help="DuckDB's threads; without it one a core")
    _add_spark_arguments(group)


def opened_engine(arguments: argparse.Namespace, scratch: Path) -> "AbstractContextManager[Engine]":
    """The engine that the arguments name.

    Args:
        arguments: With those of `add_engine_arguments`.
        scratch: A folder for the engine's temporary files.

    Raises:
        UserError: the engine doesn't start, or isn't installed.
    """
    if arguments.engine == "spark":
        return _spark(arguments, scratch)
    from ehr_bert.engines import DuckDBEngine

    return DuckDBEngine(scratch, arguments.memory_limit, arguments.threads)


def add_task_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of a stage that runs independent tasks."""
    group = parser.add_argument_group("where it is computed")
    group.add_argument(
        "--engine",
        choices=("processes", "spark"),
        default="processes",
        help="processes of this machine, or Spark, a task for each file that is read",
    )
    group.add_argument(
        "--processes",
        type=count,
        metavar="N",
        help="processes; without it one a core, or fewer for few files",
    )
    _add_spark_arguments(group)


@contextmanager
def opened_task_runner(arguments: argparse.Namespace, scratch: Path) -> "Iterator[TaskRunner]":
    """What runs tasks, by the arguments of `add_task_arguments`; see `opened_engine`."""
    if arguments.engine == "spark":
        with _spark(arguments, scratch) as engine:
            yield engine.run
    else:
        from ehr_bert.processes import Processes

        yield Processes(arguments.processes)


def _add_spark_arguments(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--spark-master", default="local[*]", metavar="URL", help="Spark's address; local[*] is this machine"
    )
    group.add_argument(
        "--spark-conf",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of Spark, such as spark.driver.memory=16g; may be given often",
    )


def _spark(arguments: argparse.Namespace, scratch: Path) -> "SparkEngine":
    try:
        from ehr_bert.engines.spark import SparkEngine
    except ImportError as error:
        from ehr_bert.errors import UserError

        raise UserError(
            f"--engine spark needs the extra `spark`: pip install 'ehr-bert[spark]' ({error})"
        ) from error
    return SparkEngine(scratch, arguments.spark_master, dict(arguments.spark_conf))


def _setting(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not name or not separator:
        raise argparse.ArgumentTypeError(f"{text!r}: write NAME=VALUE")
    return name, value
