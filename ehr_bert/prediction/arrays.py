"""Arrays by name in a file: written whole or not at all, and read without trust."""

from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from ehr_bert.errors import UserError
from ehr_bert.files import atomic_files


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a `.npz` file, aside first."""
    with atomic_files(path) as (temporary,), open(temporary, "wb") as file:
        np.savez_compressed(file, allow_pickle=False, **dict(arrays))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """What `write_arrays` wrote.

    Raises:
        UserError: the file is missing or damaged, or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror or error}") from error
    except (ValueError, EOFError, KeyError, TypeError, BadZipFile) as error:
        raise UserError(f"{path} is no file of arrays, or a damaged one") from error
