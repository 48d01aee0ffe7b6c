"""Opens TFRecord files of packed or tutorial examples."""

import glob
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from ehr_bert.errors import UserError
from ehr_bert.examples import packed, packed_reading, tutorial_reading
from ehr_bert.examples.facts import PackedFacts
from ehr_bert.examples.packed_reading import PackedExamples
from ehr_bert.examples.records import Checked, check
from ehr_bert.examples.sidecars import Sidecar, find_sidecar, find_vocabulary, is_sidecar
from ehr_bert.examples.source import RECORD_COUNTS, ExampleSet, ExamplesInfo
from ehr_bert.examples.tutorial_reading import TutorialExamples
from ehr_bert.logs import warn
from ehr_bert.vocabulary import Vocabulary

MAX_CORRUPT_RECORDS = 100
"""Largest number of damaged records that are skipped by default."""

logger = logging.getLogger(__name__)

Value = TypeVar("Value")


def expand(patterns: str) -> list[Path]:
    """Return the files of a comma-separated list of paths and globs, without descriptions such as
    `examples.json`.

    A path that exists is taken literally, also if it contains `*`, `?`, `[` or commas. Files of one glob are
    sorted.

    Raises:
        UserError: A pattern matches no file (key `no-examples-match`).
    """
    files: list[Path] = []
    for pattern in [patterns] if Path(patterns).exists() else patterns.split(","):
        text = pattern.strip()
        files += _examples_among(map(Path, [text] if Path(text).exists() else glob.glob(text)), text)
    return files


def examples_in(folder: Path, pattern: str) -> list[Path]:
    """Return the files of examples in a folder, sorted.

    Args:
        folder: Path of the folder, which is taken literally.
        pattern: Glob for the names of the files, such as `train-*.tfrecord`.

    Raises:
        UserError: There is none (key `no-examples-match`).
    """
    return _examples_among(folder.glob(pattern), f"{folder}/{pattern}")


def _examples_among(paths: Iterable[Path], pattern: str) -> list[Path]:
    files = sorted(path for path in paths if path.is_file() and not is_sidecar(path))
    if not files:
        raise UserError("no-examples-match", f"no file of examples matches {pattern!r}. Check the spelling.")
    return files


def describe(files: Sequence[Path]) -> ExamplesInfo:
    """Return the description of the files, see `open_examples`."""
    return open_examples(files).info


def open_examples(
    files: Sequence[Path],
    max_corrupt_records: int = MAX_CORRUPT_RECORDS,
    max_predictions_per_seq: int | None = None,
) -> ExampleSet:
    """Check all records of files of examples, and open them.

    Args:
        files: TFRecord files of one kind of examples.
        max_corrupt_records: Largest number of records that are skipped because they are damaged or no
            examples.
        max_predictions_per_seq: Largest number of masked codes used per tutorial example; all if None.

    Raises:
        UserError: A file is missing (key `missing-file`) or damaged (`damaged-file`,
            `too-many-corrupt-records`); there are no examples (`no-examples`); or the files have different
            kinds (`mixed-kinds`), vocabularies (`vocabulary-mismatch`) or conventions
            (`convention-mismatch`).
    """
    sidecars = {file: sidecar for file in files if (sidecar := find_sidecar(file))}
    vocabulary = _vocabulary(sidecars)
    kinds = {file: sidecars[file].kind if file in sidecars else None for file in files}
    is_packed = packed.PACKED in kinds.values()
    if is_packed and len(set(kinds.values())) > 1:
        other = next(file for file, kind in kinds.items() if kind != packed.PACKED)
        raise UserError(
            "mixed-kinds",
            f"{other} does not contain packed windows, but other files do. Name files of one kind.",
        )
    checked: dict[Path, Checked] = {}
    skipped = 0
    for file in files:
        checked[file] = _check(file, sidecars.get(file), max_corrupt_records - skipped)
        skipped += checked[file].corrupt
    info = _info(checked, sidecars, vocabulary, max_predictions_per_seq)
    if vocabulary is None or not is_packed:
        return TutorialExamples(info, checked.values())
    lengths = {file: _window_length(file, sidecar) or 0 for file, sidecar in sidecars.items()}
    return PackedExamples(info, checked, lengths, vocabulary)


def _check(file: Path, sidecar: Sidecar | None, most_corrupt: int) -> Checked:
    facts = sidecar.files[file.name] if sidecar else None
    size = file.stat().st_size if file.exists() else 0
    if facts and size != facts.bytes:
        raise UserError(
            "damaged-file",
            f"{file} is missing, truncated or replaced: it has {size:,} bytes instead of {facts.bytes:,}. "
            "Run `ehr-bert features` again.",
        )
    length = sidecar and _window_length(file, sidecar)
    if sidecar and length:
        packed_measure = packed_reading.PackedMeasure(length, sidecar.vocab_size, sidecar.observation)
        checked = check(file, packed_reading.parse_packed, packed_measure, most_corrupt)
    else:
        checked = check(file, tutorial_reading.parse_tutorial, tutorial_reading.measure, most_corrupt)
    if facts and checked.records + checked.corrupt != facts.records:
        raise UserError(
            "damaged-file",
            f"{file} is damaged: {checked.records:,} of its {facts.records:,} records can be read. "
            "Run `ehr-bert features` again.",
        )
    if checked.corrupt:
        warn(
            logger,
            "corrupt-records",
            f"{file}: skipped {checked.corrupt:,} damaged record(s), read {checked.records:,}.",
        )
    return checked


def _info(
    checked: Mapping[Path, Checked],
    sidecars: Mapping[Path, Sidecar],
    vocabulary: Vocabulary | None,
    max_predictions_per_seq: int | None,
) -> ExamplesInfo:
    valid = [file for file in checked.values() if file.records]
    corrupt = sum(file.corrupt for file in checked.values())
    if not valid:
        raise UserError(
            "no-examples",
            f"there are no examples in {', '.join(map(str, checked))}, but {corrupt:,} other records. Write "
            "examples of more patients, or name other files. Packed ones need examples.json next to them.",
        )
    sums = dict(zip(RECORD_COUNTS, np.sum([file.sums for file in valid], axis=0).tolist(), strict=True))
    largest = dict(zip(RECORD_COUNTS, np.max([file.largest for file in valid], axis=0).tolist(), strict=True))
    descriptions = [sidecars.get(file) for file in checked]
    masked = largest["max_predictions_per_seq"]
    windows: Counter[int] = Counter()
    for file, records in checked.items():
        length = _window_length(file, sidecars[file]) if file in sidecars else None
        windows[length or largest["max_seq_length"]] += records.records
    return ExamplesInfo(
        files=tuple(file.name for file in checked),
        kind=_common(sidecar.kind if sidecar else None for sidecar in descriptions),
        examples=sum(file.records for file in valid),
        windows=tuple((count, length) for length, count in sorted(windows.items()) if count),
        patients=sums["patients"],
        real_tokens=sums["real_tokens"],
        longest=largest["longest"],
        # For packed windows, this is the requested length, whether a window has it or not.
        max_seq_length=max(_longest_window(sidecar) or largest["max_seq_length"] for sidecar in descriptions),
        max_predictions_per_seq=min(masked, max_predictions_per_seq or masked) or None,
        max_id=max(sidecar.vocab_size - 1 if sidecar else largest["max_id"] for sidecar in descriptions),
        corrupt=corrupt,
        mask_id=_common(sidecar.mask_id if sidecar else None for sidecar in descriptions),
        cls_id=_common(sidecar.cls_id if sidecar else None for sidecar in descriptions),
        vocabulary=vocabulary,
        observation=any(sidecar.observation for sidecar in sidecars.values()),
    )


def _window_length(file: Path, sidecar: Sidecar) -> int | None:
    """Return the length of the packed windows of a file, or None for other examples."""
    facts = sidecar.files[file.name]
    return facts.window_length if isinstance(facts, PackedFacts) else None


def _longest_window(sidecar: Sidecar | None) -> int | None:
    """Return the largest window length that was requested, or None for other examples."""
    settings = sidecar.settings if sidecar else None
    return settings.window_lengths[-1] if isinstance(settings, packed.PackedSettings) else None


def _vocabulary(sidecars: Mapping[Path, Sidecar]) -> Vocabulary | None:
    """Return the vocabulary of all files, or None if no file has one."""
    if not sidecars:
        return None
    first, sidecar = next(iter(sidecars.items()))
    for file, other in sidecars.items():
        if other.vocabulary_sha256 != sidecar.vocabulary_sha256:
            raise UserError(
                "vocabulary-mismatch",
                f"{first} and {file} have different vocabularies. Write both with the same one.",
            )
        if (other.mask_id, other.cls_id) != (sidecar.mask_id, sidecar.cls_id):
            raise UserError(
                "convention-mismatch",
                f"only one of {first} and {file} was written with --med_bert. Write both in the same way.",
            )
    path = find_vocabulary(first)
    vocabulary = Vocabulary.read(path)
    if vocabulary.sha256 != sidecar.vocabulary_sha256:
        raise UserError("vocabulary-mismatch", f"{path} is not the vocabulary of {first}. Write both again.")
    return vocabulary


def _common(values: Iterable[Value]) -> Value | None:
    """Return the common value, or None if the values differ."""
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else None
