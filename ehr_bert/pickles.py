"""Pickle files of the Med-BERT tutorial, read by an unpickler that cannot run code.

As in the original, a file contains several pickles one after the other, each a list of up to 100,000
patients.
"""

import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ehr_bert.errors import UserError
from ehr_bert.schemas import SEQUENCES


class _UnsafePickleError(pickle.UnpicklingError):
    """A pickle refers to a class or function."""


class _PlainUnpickler(pickle.Unpickler):
    """Reads lists, tuples, dicts, strings and numbers, and refuses every class and function."""

    def find_class(self, module: str, name: str) -> Any:
        raise _UnsafePickleError(
            f"it refers to {module}.{name}. Only lists, dicts, strings and numbers are read, because other "
            "pickles can run code"
        )


def read_pickles(path: Path) -> Iterator[Any]:
    """Yield the objects of a file of one or more pickles, in order.

    Raises:
        UserError: The file cannot be read (key `unreadable-file`), is empty (`empty-file`), truncated or
            damaged (`invalid-pickle`), or refers to a class or function (`unsafe-pickle`).
    """
    count = 0
    try:
        with open(path, "rb") as file:
            while file.peek(1):
                yield _PlainUnpickler(file, encoding="latin1").load()
                count += 1
    except OSError as error:
        raise UserError(
            "unreadable-file", f"{path} cannot be read: {error.strerror}. Check the path."
        ) from error
    except _UnsafePickleError as error:
        raise UserError(
            "unsafe-pickle", f"{path}, pickle {count + 1} is refused: {error}. Write it again."
        ) from error
    except pickle.UnpicklingError as error:
        raise UserError(
            "invalid-pickle",
            f"{path} is damaged or is not a pickle file (pickle {count + 1}: {str(error).rstrip('.')}). "
            "Choose another file, or write it again.",
        ) from error
    except (EOFError, ValueError, IndexError, KeyError, AttributeError, TypeError) as error:
        raise UserError(
            "invalid-pickle",
            f"{path} is truncated or is not a pickle file ({count} complete pickles). Write it again.",
        ) from error
    if count == 0:
        raise UserError("empty-file", f"{path} is empty. Write it again.")


def write_pickles(path: Path, objects: Iterable[Any]) -> None:
    """Write each object as a separate pickle to one file, in the protocol of the original."""
    with open(path, "wb") as file:
        for content in objects:
            pickle.dump(content, file, protocol=4)


TUTORIAL_SEQUENCES = pa.schema(
    [SEQUENCES.field(name) for name in ("patient_id", "token_ids", "visit_ids", "los_days", "days_to_next")]
)
"""The columns of `SEQUENCES` that a `.bencs` file contains: all but the dates."""


def read_bencs(path: Path) -> Iterator[pa.RecordBatch]:
    """Yield the patients of a `.bencs` file, one batch of `TUTORIAL_SEQUENCES` per pickle.

    Raises:
        UserError: The file is not a pickle file (see `read_pickles`), or a record is not
            `[patient, los, days_to_next, codes, visits]` with lists of integers of matching lengths (key
            `invalid-record`).
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
                "invalid-record",
                f"{path}, pickle {number}: a patient must be [patient, los, days_to_next, codes, visits] "
                f"with four lists of integers ({error}).",
            ) from error
        token_counts, visit_id_counts, los_counts, next_counts = (
            pc.list_value_length(batch.column(name)) for name in TUTORIAL_SEQUENCES.names[1:]
        )
        if not (token_counts.equals(visit_id_counts) and los_counts.equals(next_counts)):
            raise UserError(
                "invalid-record",
                f"{path}, pickle {number}: a patient has different numbers of codes and visits, or of los "
                "and days_to_next.",
            )
        yield batch


def write_bencs(path: Path, batches: Iterable[pa.RecordBatch], integer_ids: bool) -> None:
    """Write a `.bencs` file.

    Args:
        path: The file.
        batches: Batches with the columns of `TUTORIAL_SEQUENCES`. Each becomes a separate pickle; the
            original writes up to 100,000 patients per pickle.
        integer_ids: Write patient ids as integers, as the original does if all of them are integers.
    """

    def records(batch: pa.RecordBatch) -> list[list[Any]]:
        patients, tokens, visits, los, days_to_next = (
            batch.column(name).to_pylist() for name in TUTORIAL_SEQUENCES.names
        )
        if integer_ids:
            patients = [int(patient) for patient in patients]
        return [list(row) for row in zip(patients, los, days_to_next, tokens, visits, strict=True)]

    write_pickles(path, (records(batch) for batch in batches))
