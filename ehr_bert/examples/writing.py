"""Writing of examples as TFRecord files with their sidecars, from sequences of patients."""

import logging
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from ehr_bert.errors import UserError
from ehr_bert.examples.facts import FileFacts
from ehr_bert.examples.observation import states_observation
from ehr_bert.examples.packed import PackedFeatures, PackedSettings
from ehr_bert.examples.protobuf import serialize
from ehr_bert.examples.recoding import Recoding
from ehr_bert.examples.sidecars import INFO_NAME, Sidecar, sidecar_path
from ehr_bert.examples.tutorial import TutorialFeatures, TutorialSettings
from ehr_bert.examples.windows import Accounts
from ehr_bert.files import SUMMARY_FILE, atomic_files, atomic_folder, write_json
from ehr_bert.logs import progress_bar
from ehr_bert.processes import Processes, TaskRunner
from ehr_bert.quiet import import_tensorflow
from ehr_bert.schemas import Split
from ehr_bert.vocabulary import VOCABULARY_TABLE, Vocabulary

logger = logging.getLogger(__name__)

PATIENTS_AT_A_TIME = 4096
"""Number of patients in memory at a time. The tutorial's examples do not depend on it."""

FeatureWriter = TutorialFeatures | PackedFeatures

PRETRAINING_SPLITS = (Split.TRAIN, Split.VALID)
"""Test patients are never used for pretraining."""


def write_files(
    batches: Iterable[pa.RecordBatch],
    source: str,
    vocabulary: Vocabulary,
    settings: TutorialSettings,
    files: Sequence[Path],
) -> Accounts:
    """Write the tutorial's examples to `files` in turn, and the sidecars of each file.

    Args:
        batches: Patients with the columns of `pickles.TUTORIAL_SEQUENCES`.
        source: Name of their source, for the accounts.
        vocabulary: Vocabulary of the patients.
        settings: Settings of the examples.
        files: TFRecord files. The examples do not depend on the number of files.

    Returns:
        The number of patients by how they were handled.

    Raises:
        UserError: `files` contains one file twice (key `duplicate-output`), or the sequences do not match the
            vocabulary (`ids-out-of-range`).
    """
    if len(set(files)) < len(files):
        raise UserError("duplicate-output", "an output file is named twice. Name each file once.")
    features = TutorialFeatures(settings, vocabulary)
    infos = [sidecar_path(file, INFO_NAME) for file in files]
    vocabularies = [sidecar_path(file, VOCABULARY_TABLE) for file in files]
    with atomic_files(*files, *vocabularies, *infos) as temporaries:
        temporary_of = dict(zip((*files, *vocabularies, *infos), temporaries, strict=True))
        generator = np.random.default_rng(settings.seed)
        with progress_bar(logger, desc="examples", unit=" patients", disable=None) as progress:
            writer = _Writer(features, len(files), lambda _, shard: temporary_of[files[shard]])
            accounts, facts = writer.write(_smaller(_counted(batches, progress)), generator)
        for shard, (file, vocabulary_path, info) in enumerate(zip(files, vocabularies, infos, strict=True)):
            vocabulary.write(temporary_of[vocabulary_path])
            facts_of_file = {file.name: facts[None, shard]}
            _sidecar(features, vocabulary, {source: accounts}, facts_of_file).write(temporary_of[info])
    return accounts


def write_folder(
    sequences: Path,
    output: Path,
    settings: TutorialSettings | PackedSettings,
    shards: int,
    run: TaskRunner | None = None,
    vocabulary: Vocabulary | None = None,
) -> dict[str, Accounts]:
    """Write the examples of a folder of sequences as TFRecord files with sidecars.

    The files are called `<split>-<shard>-of-<shards>.tfrecord`. Packed windows of each length have separate
    files, `<split>-<length>-<shard>-of-<shards>.tfrecord`.

    Args:
        sequences: Folder of `ehr-bert preprocess`: `sequences/<split>/*.parquet` and `vocabulary.tsv`.
        output: Folder to write. An earlier output of this stage is replaced.
        settings: Settings of the examples. Their type determines the kind of examples.
        shards: Number of files per split (and window length), to which examples are written in turn.
        run: Runs one task per file of sequences; by default one after the other in this process. The examples
            do not depend on it.
        vocabulary: Vocabulary of the examples, if it is not that of the sequences. Tokens that it does not
            contain become `[UNK]`.

    Returns:
        The accounts by split.

    Raises:
        UserError: `sequences` is not a folder of sequences (key `unreadable-file`, `empty-folder` or
            `invalid-parquet`), does not match its vocabulary (`ids-out-of-range`), or `output` cannot be
            replaced (`output-not-empty`).
    """
    if shards < 1:
        raise UserError("invalid-setting", f"shards must be 1 or more, not {shards}.")
    own_vocabulary = Vocabulary.read(sequences / VOCABULARY_TABLE)
    recoding = Recoding(own_vocabulary, vocabulary) if vocabulary else None
    vocabulary = vocabulary or own_vocabulary
    run = run or Processes(1)
    accounts: dict[str, Accounts] = {}
    facts: dict[str, FileFacts] = {}
    with atomic_folder(output, "features", sequences) as folder:
        files = {split: _sequence_files(sequences / "sequences" / split) for split in PRETRAINING_SPLITS}
        features: FeatureWriter = (
            TutorialFeatures(settings, vocabulary)
            if isinstance(settings, TutorialSettings)
            else PackedFeatures(settings, vocabulary, states_observation(chain(*files.values())))
        )
        parts = {
            split: [
                _Part(
                    sequences=file.absolute(),
                    folder=folder.absolute(),
                    shards=shards,
                    features=features,
                    recoding=recoding,
                    seed=(settings.seed, number, index),
                )
                for index, file in enumerate(files[split])
            ]
            for number, split in enumerate(PRETRAINING_SPLITS)
        }
        tasks = [part for split_parts in parts.values() for part in split_parts]
        written = progress_bar(
            logger,
            run(_write_part, tasks),
            desc="examples",
            total=len(tasks),
            unit=" files",
            disable=None,
        )
        results = dict(zip(tasks, written, strict=True))
        for split, split_parts in parts.items():
            accounts[split] = sum((results[part][0] for part in split_parts), Accounts())
            facts_of_part = {part: results[part][1] for part in split_parts}
            for length, shard in sorted(set(chain.from_iterable(facts_of_part.values())), key=_by_length):
                stem = split if length is None else f"{split}-{length}"
                name = f"{stem}-{shard:05}-of-{shards:05}.tfrecord"
                parts_of_file = [part for part in split_parts if (length, shard) in facts_of_part[part]]
                _concatenate([part.path(length, shard) for part in parts_of_file], folder / name)
                first, *others = (facts_of_part[part][length, shard] for part in parts_of_file)
                facts[name] = sum(others, first)
        vocabulary.write(folder / VOCABULARY_TABLE)
        _sidecar(features, vocabulary, accounts, facts).write(folder / INFO_NAME)
        write_json(folder / SUMMARY_FILE, {split: asdict(counts) for split, counts in accounts.items()})
    return accounts


FactsOfFiles = dict[tuple[int | None, int], FileFacts]
"""Counts of each file, by the length of its windows (None for the tutorial's examples) and its shard."""


def _by_length(key: tuple[int | None, int]) -> tuple[int, int]:
    length, shard = key
    return length or 0, shard


@dataclass(frozen=True, eq=False)
class _Part:
    """A task that writes the examples of one file of sequences to temporary files, one per shard.

    Attributes:
        sequences: File of sequences.
        folder: Folder of the temporary files.
        shards: Number of files per split and window length.
        features: Makes the examples.
        recoding: Translation to another vocabulary, if any.
        seed: The seed of the settings, the number of the split, and the number of the file.
    """

    sequences: Path
    folder: Path
    shards: int
    features: FeatureWriter
    recoding: Recoding | None
    seed: tuple[int, int, int]

    def path(self, length: int | None, shard: int) -> Path:
        _, split, file = self.seed
        return self.folder / f".{split}-{file:05}-{length}-{shard:05}"


def _write_part(part: _Part) -> tuple[Accounts, FactsOfFiles]:
    batches = _read_sequences(part.sequences, part.features.sequence_columns)
    # All patients are packed at once, since more patients can be packed more densely.
    pieces = _smaller(batches) if isinstance(part.features, TutorialFeatures) else _together(batches)
    writer = _Writer(part.features, part.shards, part.path, part.recoding)
    return writer.write(pieces, np.random.default_rng(part.seed))


def _concatenate(parts: Sequence[Path], path: Path) -> None:
    """Concatenate the parts, which gives a valid TFRecord file, and remove them."""
    first, *others = parts
    os.replace(first, path)
    with open(path, "ab") as file:
        for part in others:
            with open(part, "rb") as source:
                shutil.copyfileobj(source, file, 1 << 20)
            part.unlink()


def _sidecar(
    features: FeatureWriter,
    vocabulary: Vocabulary,
    accounts: Mapping[str, Accounts],
    facts: Mapping[str, FileFacts],
) -> Sidecar:
    return Sidecar(
        kind=features.kind,
        settings=features.settings,
        mask_id=features.mask_id,
        cls_id=features.cls_id,
        vocab_size=len(vocabulary),
        vocabulary_sha256=vocabulary.sha256,
        accounts=accounts,
        files=facts,
        observation=features.observation,
    )


@dataclass(frozen=True)
class _Writer:
    """Writes the examples of each window length to `shards` files in turn, at `path(length, shard)`."""

    features: FeatureWriter
    shards: int
    path: Callable[[int | None, int], Path]
    recoding: Recoding | None = None

    def write(
        self, batches: Iterable[pa.RecordBatch], generator: np.random.Generator
    ) -> tuple[Accounts, FactsOfFiles]:
        """Write the examples of all patients. Return the accounts and the counts of each file."""
        import_tensorflow()  # Not at the top of the module, so that worker processes call it too.
        import tensorflow as tf

        accounts = Accounts()
        facts: FactsOfFiles = {}
        writers: dict[int | None, list[tf.io.TFRecordWriter]] = {}
        written: Counter[int | None] = Counter()
        with ExitStack() as stack:

            def open_files(length: int | None) -> None:
                paths = [str(self.path(length, shard)) for shard in range(self.shards)]
                writers[length] = [stack.enter_context(tf.io.TFRecordWriter(path)) for path in paths]
                facts.update({(length, shard): self.features.no_facts for shard in range(self.shards)})

            for length in self.features.always_written:
                open_files(length)
            for batch in batches:
                unknown = 0
                if self.recoding:
                    batch, unknown = self.recoding(batch)
                by_length, batch_accounts = self.features.by_length(batch, generator)
                accounts += replace(batch_accounts, unknown=unknown)
                for length, columns in by_length.items():
                    if length not in writers:
                        open_files(length)
                    examples = serialize(columns)
                    for shard, writer in enumerate(writers[length]):
                        own = slice((shard - written[length]) % self.shards, None, self.shards)
                        for example in examples[own]:
                            writer.write(example)
                        facts[length, shard] += self.features.facts(length, columns, own)
                    written[length] += len(examples)
        return accounts, {
            file: replace(counts, bytes=self.path(*file).stat().st_size) for file, counts in facts.items()
        }


def _together(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield all patients in one batch, or no batch if there are no patients."""
    if read := list(batches):
        yield from pa.Table.from_batches(read).combine_chunks().to_batches()


def _smaller(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for start in range(0, batch.num_rows, PATIENTS_AT_A_TIME):
            yield batch.slice(start, PATIENTS_AT_A_TIME)


def _counted(batches: Iterable[pa.RecordBatch], progress: tqdm) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield batch
        progress.update(batch.num_rows)


def _sequence_files(folder: Path) -> list[Path]:
    """Return the Parquet files of a split, sorted by name."""
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise UserError(
            "empty-folder",
            f"{folder} contains no Parquet file of sequences. Run `ehr-bert preprocess` first.",
        )
    return files


def _read_sequences(file: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    try:
        yield from pq.ParquetFile(file).iter_batches(columns=list(columns))
    except (pa.ArrowException, OSError) as error:
        raise UserError("invalid-parquet", f"{file} cannot be read as Parquet: {error}.") from error
