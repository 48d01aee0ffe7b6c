"""Atomic output: files and folders are written under a temporary name, then renamed. Also JSON files.

Each output has a lock while it is written, and symbolic links are followed.
"""

import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from ehr_bert.errors import UserError
from ehr_bert.locks import LOCK_SUFFIX, lock_of_dead_process, locked

SUMMARY_FILE = "summary.json"
"""The file that each stage writes last into its folder. It names the stage, which may replace the folder."""

CHECKPOINT_FILE = "checkpoint"
"""The file that identifies a training folder, which no stage replaces."""

SCRATCH_KINDS = ("duckdb", "spark", "copied")
"""What scratch folders contain: spilled tables of an engine, or tables copied from a database."""


@contextmanager
def atomic_files(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """Write several files so that all of them appear together, or none.

    The block writes temporary files. At its end they are renamed to `paths`, in this order, so a later stage
    should wait for the last one. After an exception none of `paths` has changed. If a path is a symbolic
    link, the file that it points to is replaced.

    Yields:
        One temporary path per file, in the same folder, for the block to write.

    Raises:
        UserError: Another process writes one of `paths` (key `output-in-use`), or one of them is a link to a
            folder that does not exist (`broken-link`).

    Example:
        >>> with atomic_files(Path("/tmp/ehr-bert-example.txt")) as (temporary,):
        ...     _ = temporary.write_text("complete")
    """
    with ExitStack() as stack:
        targets = [linked_path(path) for path in paths]
        temporaries = tuple(
            stack.enter_context(_temporary(*pair)) for pair in zip(targets, paths, strict=True)
        )
        yield temporaries
        for temporary in temporaries:
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
        for temporary, target in zip(temporaries, targets, strict=True):
            os.replace(temporary, target)


@contextmanager
def atomic_folder(path: Path, stage: str, *inputs: Path) -> Iterator[Path]:
    """Write a folder so that it appears only when it is complete.

    The block fills a temporary folder, which is renamed to `path` at its end. The block must write
    `SUMMARY_FILE` with a JSON object, to which the stage is added. An earlier output of the same stage is
    replaced. If `path` is a symbolic link, the folder that it points to is replaced. What killed processes
    left in the parent folder is removed.

    Args:
        path: The folder.
        stage: The stage that writes it, such as `preprocess`.
        inputs: Files and folders that the block reads and that must not be replaced.

    Yields:
        The temporary folder.

    Raises:
        UserError: `path` contains one of the inputs (key `output-contains-input`), exists and was not
            written by the stage (`output-not-empty`), is being written by another process (`output-in-use`),
            or is a link to a folder that does not exist (`broken-link`).
    """
    target = linked_path(path)
    for input_path in map(Path.resolve, inputs):
        if target.resolve() in (input_path, *input_path.parents):
            raise UserError(
                "output-contains-input",
                f"{path} contains the input {input_path} and would replace it. Choose another output folder.",
            )
    with _temporary(target, path) as temporary:
        if target.exists() and (reason := _reason_not_replaceable(target, stage)):
            raise _not_empty(path, stage, reason, "output folder")
        remove_leftovers(target.parent)
        temporary.mkdir()
        yield temporary
        write_json(temporary / SUMMARY_FILE, {"stage": stage, **read_json(temporary / SUMMARY_FILE)})
        _replace_folder(temporary, target)


@contextmanager
def locked_folder(path: Path) -> Iterator[None]:
    """Hold the lock of a folder that a command adds files to, such as a training folder.

    The folder is created. It is removed if it is empty at the end.

    Raises:
        UserError: Another process adds to it (key `output-in-use`), or it is a link to a folder that does not
            exist (`broken-link`).
    """
    target = linked_path(path)
    target.mkdir(parents=True, exist_ok=True)
    try:
        with locked(target / LOCK_SUFFIX, path):
            yield
    finally:
        with suppress(OSError):  # It contains files.
            target.rmdir()


class ScratchFolder:
    """A hidden folder for temporary files of this process.

    What killed processes left in the parent folder is removed.

    Args:
        parent: Its parent, on a disk with enough space. It is created.
        kind: What it contains, one of `SCRATCH_KINDS`.

    Attributes:
        path: The folder.

    Example:
        >>> scratch = ScratchFolder(Path("/tmp/ehr-bert-example"), "duckdb")
        >>> scratch.remove()
    """

    def __init__(self, parent: Path, kind: str) -> None:
        parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(parent)
        self.path = parent / f".{kind}-{secrets.token_hex(4)}"
        self._stack = ExitStack()
        self._stack.enter_context(locked(_lock_file(parent, self.path.name[1:]), self.path))
        self._stack.callback(_remove, self.path)
        self.path.mkdir(0o700)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def remove(self) -> None:
        """Remove the folder and its contents."""
        self._stack.close()


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files and folders that killed processes of this machine left in a folder.

    Those of a process that is alive are kept, and those of other users and machines. What cannot be removed
    is left for the next time.
    """
    for lock_file in sorted(folder.iterdir()):
        name = lock_file.name
        if name.startswith(".") and name.endswith(LOCK_SUFFIX) and name != LOCK_SUFFIX:
            with suppress(OSError), lock_of_dead_process(lock_file) as is_dead:
                if is_dead:
                    _remove_temporaries(folder, name[1 : -len(LOCK_SUFFIX)])


def linked_path(path: Path) -> Path:
    """Return the path that an output path points to, without symbolic links.

    Raises:
        UserError: The path, or a folder above it, is a link into a folder that does not exist (key
            `broken-link`).
    """
    target = Path(os.path.realpath(path))
    for part in (path, *path.parents):
        if part.is_symlink() and not part.exists():
            points_to = Path(os.path.realpath(part))
            if points_to.is_symlink() or not points_to.parent.is_dir():
                raise UserError(
                    "broken-link",
                    f"{part} is a link to {os.readlink(part)}, whose folder does not exist. Create the "
                    "folder, mount the disk, or correct the link.",
                )
    return target


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


@contextmanager
def _temporary(target: Path, path: Path) -> Iterator[Path]:
    """Lock an output, and yield a path next to it that only this process uses and that is removed at the end.

    Args:
        target: The output.
        path: Its path as the user gave it, for messages.
    """
    folder, name = target.parent, target.name
    folder.mkdir(parents=True, exist_ok=True)
    with locked(_lock_file(folder, name), path) as killed:
        if killed and killed.is_on_this_machine:
            _remove_temporaries(folder, name)
        temporary = folder / f".{name}.{os.getpid()}-{secrets.token_hex(4)}.partial"
        try:
            yield temporary
        finally:
            _remove(temporary)


def _lock_file(folder: Path, name: str) -> Path:
    return folder / f".{name}{LOCK_SUFFIX}"


def _remove_temporaries(folder: Path, name: str) -> None:
    """Remove what a killed process left of the output or scratch folder `name`, whose lock is held.

    A process that was killed while it replaced a folder may have left only the earlier one. It is restored.
    """
    replaced = folder / f".{name}.replaced"
    if replaced.exists() and not (folder / name).exists():
        replaced.rename(folder / name)
    _remove(replaced)
    temporary = re.compile(rf"\.{re.escape(name)}\.\d+-[0-9a-f]+\.partial")
    is_scratch = re.fullmatch(rf"({'|'.join(SCRATCH_KINDS)})-[0-9a-f]+", name)
    for path in folder.iterdir():
        if temporary.fullmatch(path.name) or (is_scratch and path.name == f".{name}"):
            _remove(path)


def _replace_folder(temporary: Path, target: Path) -> None:
    """Rename a complete folder to its place. An earlier one is restored if that fails."""
    if not target.exists():
        temporary.rename(target)
        return
    replaced = target.with_name(f".{target.name}.replaced")
    _remove(replaced)
    target.rename(replaced)
    try:
        temporary.rename(target)
    except BaseException:
        if not target.exists():
            replaced.rename(target)
        raise
    _remove(replaced)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
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
