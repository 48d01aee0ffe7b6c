"""Named arrays in a `.npz` file, written atomically and read without running code from the file."""

from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from ehr_bert.errors import UserError
from ehr_bert.files import atomic_files


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays to a `.npz` file."""
    with atomic_files(path) as (temporary,), open(temporary, "wb") as file:
        np.savez_compressed(file, allow_pickle=False, **dict(arrays))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a file that `write_arrays` wrote.

    Raises:
        UserError: The file cannot be read (key `unreadable-file`), or is damaged or of another kind
            (`damaged-file`).
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except OSError as error:
        raise UserError(
            "unreadable-file", f"{path} cannot be read: {error.strerror or error}. Check the path."
        ) from error
    except (ValueError, EOFError, KeyError, TypeError, BadZipFile) as error:
        raise UserError(
            "damaged-file",
            f"{path} is damaged or not a file of arrays. Remove it, and run the command again.",
        ) from error
