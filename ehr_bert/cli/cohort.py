"""`ehr-bert cohort`: who is looked at from which day on, what came of it, and the history up to that day."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ehr_bert.cli.engine_arguments import add_engine_arguments, opened_engine
from ehr_bert.cli.preprocess import add_history_arguments
from ehr_bert.errors import UserError

if TYPE_CHECKING:
    from ehr_bert.engines import Engine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the stage's arguments."""
    parser.add_argument(
        "definition",
        nargs="?",
        metavar="DEF",
        help="the cohort's definition: a .toml file, or the name of a ready one; docs/cohorts.md lists them",
    )
    parser.add_argument(
        "table",
        nargs="?",
        metavar="TABLE",
        help="the diagnosis table, as preprocess takes it",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder to write")
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="in place of DEF: a MEDS label file, or a table of patient_id, index_date and a column a task",
    )
    parser.add_argument(
        "--pickles",
        type=Path,
        metavar="PREFIX",
        help="in place of DEF and TABLE: the tutorial's PREFIX.{train,valid,test}, pickled lists of "
        "[patient, label, codes, visits]",
    )
    parser.add_argument(
        "--types", type=Path, metavar="FILE", help="the tutorial's .types, for the codes of --pickles"
    )
    parser.add_argument("--seed", type=int, default=0, help="decides splits, as in preprocess, and matching")
    add_history_arguments(parser)
    add_engine_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    from ehr_bert.cohorts.summary import cohort_text

    inputs = [name for name in (arguments.definition, arguments.table) if name is not None]
    _check(arguments, len(inputs))
    with opened_engine(arguments, arguments.out.absolute().parent) as engine:
        print(cohort_text(_written(arguments, engine, inputs)))


def _check(arguments: argparse.Namespace, inputs: int) -> None:
    """Raises a `UserError` unless the arguments go together."""
    if arguments.labels and arguments.pickles:
        raise UserError("--labels and --pickles are both given: give one")
    if (arguments.pickles is None) != (arguments.types is None):
        raise UserError("--pickles and --types need each other: give both or neither")
    if arguments.pickles and (arguments.tokens or arguments.roll_up != "none"):
        raise UserError("--roll-up and --tokens need a diagnosis table, and --pickles has none")
    wanted = "DEF TABLE OUT"
    if arguments.labels or arguments.pickles:
        wanted = "TABLE OUT" if arguments.labels else "OUT"
    if inputs != len(wanted.split()) - 1:
        option = " --labels FILE" if arguments.labels else " --pickles PREFIX" if arguments.pickles else ""
        raise UserError(f"{inputs + 1} names are given, where `ehr-bert cohort{option}` takes {wanted}")


def _written(arguments: argparse.Namespace, engine: "Engine", inputs: list[str]) -> dict[str, Any]:
    """Writes the folder; its summary."""
    from ehr_bert.codes import RollUp
    from ehr_bert.cohorts.definition import Definition
    from ehr_bert.cohorts.folder import write_cohort_folder, write_pickled_cohort

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
    )
