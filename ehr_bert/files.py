"""Atomic output: files and folders are written under a temporary name, then renamed. Also JSON files."""

import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ehr_bert.errors import UserError

SUMMARY_FILE = "summary.json"
"""The file that each stage writes last into its folder. It names the stage, which may replace the folder."""

CHECKPOINT_FILE = "checkpoint"
"""The file that identifies a training folder, which no stage replaces."""


@contextmanager
def atomic_files(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """Write several files so that all of them appear together, or none.

    The block writes temporary files. At its end they are renamed to `paths`, in this order, so a later stage
    should wait for the last one. After an exception none of `paths` has changed.

    Yields:
        One temporary path per file, in the same folder, for the block to write.

    Example:
        >>> with atomic_files(Path("/tmp/ehr-bert-example.txt")) as (temporary,):
        ...     _ = temporary.write_text("complete")
    """
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    temporaries = tuple(_temporary_path(path) for path in paths)
    for temporary in temporaries:
        _remove(temporary)
    try:
        yield temporaries
        for temporary in temporaries:
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
        for temporary, path in zip(temporaries, paths, strict=True):
            os.replace(temporary, path)
    finally:
        for temporary in temporaries:
            _remove(temporary)


@contextmanager
def atomic_folder(path: Path, stage: str, *inputs: Path) -> Iterator[Path]:
    """Write a folder so that it appears only when it is complete.

    The block fills a temporary folder, which is renamed to `path` at its end. The block must write
    `SUMMARY_FILE` with a JSON object, to which the stage is added. An earlier output of the same stage is
    replaced.

    Args:
        path: The folder.
        stage: The stage that writes it, such as `preprocess`.
        inputs: Files and folders that the block reads and that must not be replaced.

    Yields:
        The temporary folder.

    Raises:
        UserError: `path` contains one of the inputs (key `output-contains-input`), or exists and was not
            written by the stage (`output-not-empty`).
    """
    for input_path in map(Path.resolve, inputs):
        if path.resolve() in (input_path, *input_path.parents):
            raise UserError(
                "output-contains-input",
                f"{path} contains the input {input_path} and would replace it. Choose another output folder.",
            )
    if path.exists() and (reason := _reason_not_replaceable(path, stage)):
        raise _not_empty(path, stage, reason, "output folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_path(path)
    _remove(temporary)
    temporary.mkdir()
    try:
        yield temporary
        write_json(temporary / SUMMARY_FILE, {"stage": stage, **read_json(temporary / SUMMARY_FILE)})
        if path.exists():
            replaced = path.with_name(f".{path.name}.replaced")
            _remove(replaced)
            os.rename(path, replaced)
            os.rename(temporary, path)
            _remove(replaced)
        else:
            os.rename(temporary, path)
    finally:
        if temporary.exists():
            _remove(temporary)


def refuse_foreign_folder(folder: Path, stage: str, file: str) -> None:
    """Refuse to add files to a folder that another program has written to.

    Args:
        folder: The folder, which may not exist yet.
        stage: The stage that is about to write to it.
        file: The file that the stage writes first, by which it recognises its folder.

    Raises:
        UserError: The folder contains files, but not `file` (key `output-not-empty`).
    """
    if folder.is_dir() and not (folder / file).exists() and any(folder.glob("[!.]*")):
        raise _not_empty(folder, stage, f"no {file}", "--output")


def refuse_changed_settings(folder: Path, changed: Iterable[str]) -> None:
    """Refuse to continue a folder with other settings than it was started with.

    Args:
        folder: The folder.
        changed: Names of the settings or inputs that differ.

    Raises:
        UserError: `changed` is not empty (key `output-of-other-settings`).
    """
    if names := ", ".join(changed):
        raise UserError(
            "output-of-other-settings",
            f"{folder} was written with other settings ({names}). Use the same settings, choose another "
            "--output, or remove the folder.",
        )


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        UserError: The file cannot be read (key `unreadable-file`) or does not contain a JSON object
            (`invalid-json`).
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            "unreadable-file", f"{path} cannot be read: {error.strerror}. Check the path."
        ) from error
    except ValueError as error:
        raise UserError(
            "invalid-json", f"{path} is not valid JSON: {error}. Correct it, or write it again."
        ) from error
    if not isinstance(values, dict):
        raise UserError(
            "invalid-json", f"{path} contains a {type(values).__name__} instead of an object. Write it again."
        )
    return values


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write an object to a JSON file atomically, indented."""
    with atomic_files(path) as (temporary,):
        temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def nan_to_none(figures: Mapping[str, float]) -> dict[str, float | None]:
    """Replace NaN by None, since JSON has no NaN."""
    return {name: None if math.isnan(figure) else float(figure) for name, figure in figures.items()}


def _temporary_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _reason_not_replaceable(path: Path, stage: str) -> str | None:
    """Return why a stage must not replace an existing path, or None if it may."""
    if not path.is_dir():
        return "it is a file"
    if (path / CHECKPOINT_FILE).exists():
        return "it contains a training run"
    if not (path / SUMMARY_FILE).exists():
        return f"no {SUMMARY_FILE}" if any(path.iterdir()) else None
    writer = read_json(path / SUMMARY_FILE).get("stage")
    return None if writer == stage else f"its {SUMMARY_FILE} names the stage {writer!r}"


def _not_empty(folder: Path, stage: str, reason: str, what: str) -> UserError:
    return UserError(
        "output-not-empty",
        f"{folder} is not empty and was not written by {stage} ({reason}). Choose another {what}.",
    )
