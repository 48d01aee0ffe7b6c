"""Opening TFRecord files of examples, of either kind."""

import glob
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
from ehr_bert.vocabulary import Vocabulary

MAX_CORRUPT_RECORDS = 100
"""Records that may be left out by default."""

Value = TypeVar("Value")


def expand(patterns: str) -> list[Path]:
    """The files of a comma-separated list of paths and globs, sorted within a glob, sidecars left out.

    Raises:
        UserError: a pattern matches no file.
    """
    files: list[Path] = []
    for pattern in patterns.split(","):
        matches = (Path(match) for match in sorted(glob.glob(pattern.strip())))
        found = [match for match in matches if match.is_file() and not is_sidecar(match)]
        if not found:
            raise UserError(f"no file of examples matches {pattern.strip()!r}: see how it is written")
        files += found
    return files


def describe(files: Sequence[Path]) -> ExamplesInfo:
    """What the files hold, see `open_examples`."""
    return open_examples(files).info


def open_examples(
    files: Sequence[Path],
    max_corrupt_records: int = MAX_CORRUPT_RECORDS,
    max_predictions_per_seq: int | None = None,
) -> ExampleSet:
    """Opens files of examples, once all are read through.

    Args:
        files: TFRecord files, of one kind of examples.
        max_corrupt_records: Records at most that are left out since they are damaged or something else.
        max_predictions_per_seq: Masked codes that count of each of the tutorial's examples; all if None.

    Raises:
        UserError: a file is missing, cut off or damaged, or holds something else; there are no examples;
            or files were made with different vocabularies or choices.
    """
    sidecars = {file: sidecar for file in files if (sidecar := find_sidecar(file))}
    vocabulary = _vocabulary(sidecars)
    kinds = {file: sidecars[file].kind if file in sidecars else None for file in files}
    is_packed = packed.PACKED in kinds.values()
    if is_packed and len(set(kinds.values())) > 1:
        other = next(file for file, kind in kinds.items() if kind != packed.PACKED)
        raise UserError(f"{other} holds no packed windows, and other files do: name files of one kind")
    checked: dict[Path, Checked] = {}
    left_out = 0
    for file in files:
        checked[file] = _check(file, sidecars.get(file), max_corrupt_records - left_out)
        left_out += checked[file].corrupt
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
        packed_measure = packed_reading.PackedMeasure(length, sidecar.vocab_size)
        found = check(file, packed_reading.parse_packed, packed_measure, most_corrupt)
    else:
        found = check(file, tutorial_reading.parse_tutorial, tutorial_reading.measure, most_corrupt)
    if facts and found.records + found.corrupt != facts.records:
        raise UserError(
            "damaged-file",
            f"{file} is damaged: {found.records:,} of its {facts.records:,} records can be read. "
            "Run `ehr-bert features` again.",
        )
    if found.corrupt:
        print(f"{file}: left out {found.corrupt:,} damaged record(s), read {found.records:,}")
    return found


def _info(
    checked: Mapping[Path, Checked],
    sidecars: Mapping[Path, Sidecar],
    vocabulary: Vocabulary | None,
    max_predictions_per_seq: int | None,
) -> ExamplesInfo:
    sound = [found for found in checked.values() if found.records]
    corrupt = sum(found.corrupt for found in checked.values())
    if not sound:
        raise UserError(
            f"there are no examples in {', '.join(map(str, checked))}, and {corrupt:,} other records: make "
            "them of more patients, or name files of examples, packed ones with examples.json beside them"
        )
    sums = dict(zip(RECORD_COUNTS, np.sum([found.sums for found in sound], axis=0).tolist(), strict=True))
    largest = dict(
        zip(RECORD_COUNTS, np.max([found.largest for found in sound], axis=0).tolist(), strict=True)
    )
    told = [sidecars.get(file) for file in checked]
    masked = largest["max_predictions_per_seq"]
    windows: Counter[int] = Counter()
    for file, found in checked.items():
        length = _window_length(file, sidecars[file]) if file in sidecars else None
        windows[length or largest["max_seq_length"]] += found.records
    return ExamplesInfo(
        files=tuple(file.name for file in checked),
        kind=_common(each.kind if each else None for each in told),
        examples=sum(found.records for found in sound),
        windows=tuple((count, length) for length, count in sorted(windows.items()) if count),
        patients=sums["patients"],
        real_tokens=sums["real_tokens"],
        longest=largest["longest"],
        # Of packed windows the length that was asked for, be there a window of it or not.
        max_seq_length=max(_longest_window(each) or largest["max_seq_length"] for each in told),
        max_predictions_per_seq=min(masked, max_predictions_per_seq or masked) or None,
        max_id=max(each.vocab_size - 1 if each else largest["max_id"] for each in told),
        corrupt=corrupt,
        mask_id=_common(each.mask_id if each else None for each in told),
        cls_id=_common(each.cls_id if each else None for each in told),
        vocabulary=vocabulary,
    )


def _window_length(file: Path, sidecar: Sidecar) -> int | None:
    """The length of a file's packed windows, None of other examples."""
    facts = sidecar.files[file.name]
    return facts.window_length if isinstance(facts, PackedFacts) else None


def _longest_window(sidecar: Sidecar | None) -> int | None:
    """The length at which patients were packed, None of other examples."""
    settings = sidecar.settings if sidecar else None
    return settings.window_lengths[-1] if isinstance(settings, packed.PackedSettings) else None


def _vocabulary(sidecars: Mapping[Path, Sidecar]) -> Vocabulary | None:
    """The vocabulary that all files agree on, None where no file tells of one."""
    if not sidecars:
        return None
    first, sidecar = next(iter(sidecars.items()))
    for file, other in sidecars.items():
        if other.vocabulary_sha256 != sidecar.vocabulary_sha256:
            raise UserError(
                f"{first} and {file} were made with different vocabularies: make both with the same one"
            )
        if (other.mask_id, other.cls_id) != (sidecar.mask_id, sidecar.cls_id):
            raise UserError(
                f"one of {first} and {file} was made with Med-BERT's choices: make both the same way"
            )
    path = find_vocabulary(first)
    vocabulary = Vocabulary.read(path)
    if vocabulary.sha256 != sidecar.vocabulary_sha256:
        raise UserError(f"{path} is not the vocabulary that {first} was made with: make both again")
    return vocabulary


def _common(values: Iterable[Value]) -> Value | None:
    """The value that all agree on, if they do."""
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else None
