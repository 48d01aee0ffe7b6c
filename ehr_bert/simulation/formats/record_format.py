"""What a format of simulated records defines."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ehr_bert.simulation.formats.parts import ChunkFiles
from ehr_bert.simulation.records import SimulatedRecords


def _nothing(folder: Path, codes: Sequence[str]) -> None:
    """Write no tables but those of the chunks."""


@dataclass(frozen=True)
class RecordFormat:
    """A format of simulated records.

    Attributes:
        title: What the format is, for the help text.
        write: Writes the records of one chunk.
        finish: Writes the tables that are not split by patient. It is called once, after all chunks, with the
            folder of the data set and the codes that occur, in the order of `Conditions.codes`.
        most_patients: The largest number of patients that the format is meant for, if there is one.
    """

    title: str
    write: Callable[[SimulatedRecords, ChunkFiles], None]
    finish: Callable[[Path, Sequence[str]], None] = _nothing
    most_patients: int | None = None
