"""Output that is whole or absent: written aside, then renamed."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ehr_bert.errors import UserError

FOLDER_MARK = "summary.json"
"""The file by which a folder is known as a stage's earlier output, which the stage may replace."""

TRAINING_MARK = "checkpoint"
"""The file by which a folder is known as a training, hours of work that no other stage replaces."""


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def written_aside(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """Files to write in place of `paths`; renamed together, in this order, when the block ends well.

    After an exception none of `paths` has changed. A later stage should wait for the last of them.

    Yields:
        One path beside each of `paths`, for the block to write.
    """
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    asides = tuple(_aside(path) for path in paths)
    for aside in asides:
        _remove(aside)
    try:
        yield asides
        for aside in asides:
            with open(aside, "rb") as file:
                os.fsync(file.fileno())
        for aside, path in zip(asides, paths, strict=True):
            os.replace(aside, path)
    finally:
        for aside in asides:
            _remove(aside)


@contextmanager
def folder_written_aside(path: Path, stage: str, *inputs: Path) -> Iterator[Path]:
    """A folder to fill in place of `path`, renamed when the block ends well.

    The block must write `FOLDER_MARK`, an object in JSON, into it; the stage is noted there. What the same
    stage wrote to `path` earlier is replaced; anything else there is left alone.

    Args:
        path: The folder.
        stage: What makes it, such as `preprocess`.
        inputs: What the block reads, which must not be replaced.

    Raises:
        UserError: `path` holds something that is not an earlier output of the stage, or one of the inputs.
    """
    for each in map(Path.resolve, inputs):
        if path.resolve() in (each, *each.parents):
            raise UserError(f"{path} holds what is read, which it would replace: name another folder")
    if path.exists() and not _replaceable(path, stage):
        raise UserError(
            f"{path} exists and is not an earlier output of {stage}, as its {FOLDER_MARK} would tell: "
            "name another folder, or remove it"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(path)
    _remove(aside)
    aside.mkdir()
    try:
        yield aside
        mark = {"stage": stage, **read_json(aside / FOLDER_MARK)}
        (aside / FOLDER_MARK).write_text(json.dumps(mark, indent=2) + "\n", encoding="utf-8")
        if path.exists():
            replaced = path.with_name(f".{path.name}.replaced")
            _remove(replaced)
            os.rename(path, replaced)
            os.rename(aside, path)
            _remove(replaced)
        else:
            os.rename(aside, path)
    finally:
        if aside.exists():
            _remove(aside)


def _replaceable(path: Path, stage: str) -> bool:
    if not path.is_dir() or (path / TRAINING_MARK).exists():
        return False
    if not (path / FOLDER_MARK).exists():
        return not any(path.iterdir())
    return read_json(path / FOLDER_MARK).get("stage") == stage


def read_json(path: Path) -> dict[str, Any]:
    """The object of a JSON file.

    Raises:
        UserError: the file is missing, or holds something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path} is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} holds a {type(values).__name__}, not an object of keys and values")
    return values


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes an object as JSON, aside first."""
    with written_aside(path) as (aside,):
        aside.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
