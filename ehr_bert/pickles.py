"""Pickles of the Med-BERT tutorial, read by an unpickler that can't run code.

The original writes a file as several pickles one after the other, each a list of up to 100,000 patients.
"""

import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ehr_bert.errors import UserError
from ehr_bert.schemas import SEQUENCES


class _PlainUnpickler(pickle.Unpickler):
    """Builds lists, tuples, dicts, strings and numbers; refuses every name of a class or function."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(
            f"it names {module}.{name}, and only lists, dicts, strings and numbers are read, "
            "since a pickle that names anything can run code"
        )


def read_pickles(path: Path) -> Iterator[Any]:
    """The objects of a file of one or more pickles, in order.

    Raises:
        UserError: the file is missing, holds no pickle, is cut off or damaged, or names a global.
    """
    count = 0
    try:
        with open(path, "rb") as file:
            while file.peek(1):
                yield _PlainUnpickler(file, encoding="latin1").load()
                count += 1
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}") from error
    except pickle.UnpicklingError as error:
        raise UserError(f"{path} refused, pickle {count + 1}: {error}") from error
    except (EOFError, ValueError, IndexError, KeyError, AttributeError, TypeError) as error:
        raise UserError(
            f"{path} is cut off or is no pickle (after {count} whole ones): make it again"
        ) from error
    if count == 0:
        raise UserError(f"{path} is empty: make it again")


def write_pickles(path: Path, objects: Iterable[Any]) -> None:
    """Writes each object as a pickle of its own, one after the other, in the original's protocol."""
    with open(path, "wb") as file:
        for each in objects:
            pickle.dump(each, file, protocol=4)


TUTORIAL_SEQUENCES = pa.schema(
    [SEQUENCES.field(name) for name in ("patient_id", "token_ids", "visit_ids", "los_days", "days_to_next")]
)
"""What `.bencs` holds of `SEQUENCES`: all but the dates."""


def read_bencs(path: Path) -> Iterator[pa.RecordBatch]:
    """The patients of a tutorial's `.bencs` file, a batch of `TUTORIAL_SEQUENCES` for each pickle in it.

    Raises:
        UserError: as `read_pickles`, or a record isn't `[patient, los, days_to_next, codes, visits]`
            with lists of integers of fitting lengths.
    """
    for number, records in enumerate(read_pickles(path), 1):
        try:
            patients, los, days_to_next, codes, visits = zip(*records, strict=True) if records else ([],) * 5
            batch = pa.record_batch(
                [
                    pa.array([str(patient) for patient in patients], pa.string()),
                    *(
                        pa.array(column, pa.list_(pa.int32()))
                        for column in (codes, visits, los, days_to_next)
                    ),
                ],
                schema=TUTORIAL_SEQUENCES,
            )
        except (ValueError, TypeError, OverflowError, pa.ArrowException) as error:
            raise UserError(
                f"{path}, pickle {number}: a patient must be [patient, los, days_to_next, codes, visits], "
                f"the last four lists of integers ({error})"
            ) from error
        token_counts, visit_id_counts, los_counts, next_counts = (
            pc.list_value_length(batch.column(name)) for name in TUTORIAL_SEQUENCES.names[1:]
        )
        if not (token_counts.equals(visit_id_counts) and los_counts.equals(next_counts)):
            raise UserError(
                f"{path}, pickle {number}: a patient's codes and visits, or stays and gaps, differ in number"
            )
        yield batch


def write_bencs(path: Path, batches: Iterable[pa.RecordBatch], integer_ids: bool) -> None:
    """Writes batches that hold the columns of `TUTORIAL_SEQUENCES` as a `.bencs` file.

    Args:
        path: The file.
        batches: Each becomes a pickle of its own; the original's have up to 100,000 patients.
        integer_ids: Write patient ids as integers, as the original does where all of them are.
    """

    def records(batch: pa.RecordBatch) -> list[list[Any]]:
        patients, tokens, visits, los, days_to_next = (
            batch.column(name).to_pylist() for name in TUTORIAL_SEQUENCES.names
        )
        if integer_ids:
            patients = [int(patient) for patient in patients]
        return [list(row) for row in zip(patients, los, days_to_next, tokens, visits, strict=True)]

    write_pickles(path, (records(batch) for batch in batches))
