"""`ehr-bert cohort`: build a cohort for prediction."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ehr_bert.cli.engine_arguments import add_engine_arguments, opened_engine
from ehr_bert.cli.preprocess import add_history_arguments
from ehr_bert.cli.time_arguments import add_time_zone_argument
from ehr_bert.errors import UserError
from ehr_bert.files import linked_path

if TYPE_CHECKING:
    from ehr_bert.engines import Engine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "definition",
        nargs="?",
        metavar="DEF",
        help="definition of the cohort: a .toml file, or the name of a shipped definition (see "
        "docs/cohorts.md)",
    )
    parser.add_argument("table", nargs="?", metavar="TABLE", help="diagnosis table, as for preprocess")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="labels instead of DEF: a MEDS label file, or a table of patient_id, index_date and one column "
        "per task",
    )
    parser.add_argument(
        "--pickles",
        type=Path,
        metavar="PREFIX",
        help="labelled pickles of the tutorial instead of DEF and TABLE: PREFIX.{train,valid,test}, lists of "
        "[patient, label, codes, visits]",
    )
    parser.add_argument(
        "--types", type=Path, metavar="FILE", help=".types file of the tutorial for the codes of --pickles"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="random seed of the splits, as in preprocess, and of matching"
    )
    add_history_arguments(parser)
    add_time_zone_argument(parser)
    add_engine_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Build the cohort and print its summary."""
    from ehr_bert.cohorts.summary import cohort_text

    inputs = [name for name in (arguments.definition, arguments.table) if name is not None]
    _check(arguments, len(inputs))
    with opened_engine(arguments, linked_path(arguments.out).parent) as engine:
        print(cohort_text(_write(arguments, engine, inputs)))


def _check(arguments: argparse.Namespace, inputs: int) -> None:
    """Raise a `UserError` if arguments are missing or conflict with each other."""
    if arguments.labels and arguments.pickles:
        raise UserError(
            "conflicting-options", "--labels and --pickles cannot be combined. Remove one of them."
        )
    if (arguments.pickles is None) != (arguments.types is None):
        given, missing = ("--types", "--pickles") if arguments.pickles is None else ("--pickles", "--types")
        raise UserError("missing-option", f"{given} needs {missing}. Add it.")
    if arguments.pickles:
        values = {
            "--roll-up": arguments.roll_up != "none",
            "--tokens": arguments.tokens,
            "--seed": arguments.seed,
            "--time-zone": arguments.time_zone,
        }
        unused = [name for name, value in values.items() if value]
        if unused:
            raise UserError(
                "setting-without-effect", f"{', '.join(unused)} has no effect with --pickles. Remove it."
            )
    names = "DEF TABLE OUT"
    if arguments.labels or arguments.pickles:
        names = "TABLE OUT" if arguments.labels else "OUT"
    if inputs != len(names.split()) - 1:
        option = " --labels FILE" if arguments.labels else " --pickles PREFIX" if arguments.pickles else ""
        raise UserError(
            "wrong-number-of-arguments",
            f"`ehr-bert cohort{option}` takes {names}, but got {inputs + 1} positional arguments. See "
            "`ehr-bert cohort --help`.",
        )


def _write(arguments: argparse.Namespace, engine: "Engine", inputs: list[str]) -> dict[str, Any]:
    """Write the cohort folder and return its summary."""
    from ehr_bert.codes import RollUp
    from ehr_bert.cohorts.definition import Definition
    from ehr_bert.cohorts.folder import write_cohort_folder, write_pickled_cohort
    from ehr_bert.sources.times import time_zone

    if arguments.pickles:
        return write_pickled_cohort(engine, arguments.pickles, arguments.types, arguments.out)
    return write_cohort_folder(
        engine,
        Path(inputs[-1]),
        arguments.out,
        arguments.labels or Definition.read(inputs[0]),
        arguments.seed,
        RollUp(arguments.roll_up),
        arguments.tokens,
        time_zone(arguments.time_zone),
    )
