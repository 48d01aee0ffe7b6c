"""From sequences to TFRecord files of examples, with what stands beside them."""

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
from ehr_bert.examples.packed import PackedFeatures, PackedSettings
from ehr_bert.examples.protobuf import serialize
from ehr_bert.examples.recoding import Recoding
from ehr_bert.examples.sidecars import INFO_NAME, Sidecar, sidecar_path
from ehr_bert.examples.tutorial import TutorialFeatures, TutorialSettings
from ehr_bert.examples.windows import Accounts
from ehr_bert.files import SUMMARY_FILE, atomic_files, atomic_folder, write_json
from ehr_bert.processes import Processes, TaskRunner
from ehr_bert.quiet import import_tensorflow
from ehr_bert.schemas import Split
from ehr_bert.vocabulary import VOCABULARY_TABLE, Vocabulary

PATIENTS_AT_A_TIME = 4096
"""Patients that are in memory as examples at one time; the tutorial's examples don't depend on it."""

FeatureWriter = TutorialFeatures | PackedFeatures

PRETRAINING_SPLITS = (Split.TRAIN, Split.VALID)
"""Nothing is pretrained on test patients."""


def write_files(
    batches: Iterable[pa.RecordBatch],
    source: str,
    vocabulary: Vocabulary,
    settings: TutorialSettings,
    files: Sequence[Path],
) -> Accounts:
    """Writes examples to `files`, one to each in turn, and the sidecars of each.

    Args:
        batches: Patients, with the columns of `pickles.TUTORIAL_SEQUENCES` at least.
        source: Where they come from, for the accounts.
        vocabulary: Their tokens.
        settings: How to make examples.
        files: TFRecord files; the examples are the same, whatever their number.

    Raises:
        UserError: `files` names one twice, or the sequences and the vocabulary don't fit.
    """
    if len(set(files)) < len(files):
        raise UserError("the output files name one file twice: name each once")
    features = TutorialFeatures(settings, vocabulary)
    infos = [sidecar_path(file, INFO_NAME) for file in files]
    vocabularies = [sidecar_path(file, VOCABULARY_TABLE) for file in files]
    with atomic_files(*files, *vocabularies, *infos) as temporaries:
        temporary = dict(zip((*files, *vocabularies, *infos), temporaries, strict=True))
        generator = np.random.default_rng(settings.seed)
        with tqdm(desc="examples", unit=" patients", disable=None) as progress:
            writer = _Writer(features, len(files), lambda _, shard: temporary[files[shard]])
            accounts, facts = writer.write(_smaller(_counted(batches, progress)), generator)
        for shard, (file, vocabulary_path, info) in enumerate(zip(files, vocabularies, infos, strict=True)):
            vocabulary.write(temporary[vocabulary_path])
            told = {file.name: facts[None, shard]}
            _sidecar(features, vocabulary, {source: accounts}, told).write(temporary[info])
    return accounts


def write_folder(
    sequences: Path,
    output: Path,
    settings: TutorialSettings | PackedSettings,
    shards: int,
    run: TaskRunner | None = None,
    vocabulary: Vocabulary | None = None,
) -> dict[str, Accounts]:
    """Writes the examples of a folder of sequences, as TFRecord files with sidecars.

    The files are `<split>-<shard>-of-<shards>.tfrecord`; packed windows of each length have their own,
    `<split>-<length>-<shard>-of-<shards>.tfrecord`.

    Args:
        sequences: A folder of `ehr-bert preprocess`: `sequences/<split>/*.parquet` and `vocabulary.tsv`.
        output: The folder to write; an earlier one is replaced.
        settings: How to make examples, and of which kind.
        shards: Files a split, or a split and length; examples are dealt out to them.
        run: Runs a task for each file of sequences, by default here, one by one. The examples are the same,
            whatever runs them.
        vocabulary: The vocabulary of the examples, for sequences that were made with another; tokens that it
            lacks become `[UNK]`.

    Returns:
        The accounts of each split.

    Raises:
        UserError: `sequences` lacks something, or holds something else; `output` is no earlier output.
    """
    if shards < 1:
        raise UserError(f"shards is {shards}: it must be 1 at least")
    own = Vocabulary.read(sequences / VOCABULARY_TABLE)
    recoding = Recoding(own, vocabulary) if vocabulary else None
    vocabulary = vocabulary or own
    features: FeatureWriter = (
        TutorialFeatures(settings, vocabulary)
        if isinstance(settings, TutorialSettings)
        else PackedFeatures(settings, vocabulary)
    )
    run = run or Processes(1)
    accounts: dict[str, Accounts] = {}
    facts: dict[str, FileFacts] = {}
    with atomic_folder(output, "features", sequences) as folder:
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
                for index, file in enumerate(_sequence_files(sequences / "sequences" / split))
            ]
            for number, split in enumerate(PRETRAINING_SPLITS)
        }
        tasks = [part for of_split in parts.values() for part in of_split]
        written = tqdm(
            run(_write_part, tasks), desc="examples", total=len(tasks), unit=" files", disable=None
        )
        results = dict(zip(tasks, written, strict=True))
        for split, of_split in parts.items():
            accounts[split] = sum((results[part][0] for part in of_split), Accounts())
            of_files = {part: results[part][1] for part in of_split}
            for length, shard in sorted(set(chain.from_iterable(of_files.values())), key=_by_length):
                stem = split if length is None else f"{split}-{length}"
                name = f"{stem}-{shard:05}-of-{shards:05}.tfrecord"
                holders = [part for part in of_split if (length, shard) in of_files[part]]
                _concatenate([part.path(length, shard) for part in holders], folder / name)
                first, *others = (of_files[part][length, shard] for part in holders)
                facts[name] = sum(others, first)
        vocabulary.write(folder / VOCABULARY_TABLE)
        _sidecar(features, vocabulary, accounts, facts).write(folder / INFO_NAME)
        summary = {split: asdict(each) for split, each in accounts.items()}
        write_json(folder / SUMMARY_FILE, summary)
    return accounts


FactsOfFiles = dict[tuple[int | None, int], FileFacts]
"""What each file holds, by the length of its windows, None where that is not one, and its number."""


def _by_length(key: tuple[int | None, int]) -> tuple[int, int]:
    length, shard = key
    return length or 0, shard


@dataclass(frozen=True, eq=False)
class _Part:
    """The examples of one file of sequences, dealt out to as many files as a split has shards."""

    sequences: Path
    folder: Path
    shards: int
    features: FeatureWriter
    recoding: Recoding | None
    seed: tuple[int, int, int]
    """The seed of all, the number of the split, and that of the file."""

    def path(self, length: int | None, shard: int) -> Path:
        _, split, file = self.seed
        return self.folder / f".{split}-{file:05}-{length}-{shard:05}"


def _write_part(part: _Part) -> tuple[Accounts, FactsOfFiles]:
    batches = _read_sequences(part.sequences)
    # Packing wants all patients at once: the more there are, the better they fit.
    pieces = _smaller(batches) if isinstance(part.features, TutorialFeatures) else _together(batches)
    writer = _Writer(part.features, part.shards, part.path, part.recoding)
    return writer.write(pieces, np.random.default_rng(part.seed))


def _concatenate(parts: Sequence[Path], path: Path) -> None:
    """Moves the parts into one file; TFRecord files one after the other are one."""
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
    )


@dataclass(frozen=True)
class _Writer:
    """Writes the examples of each length to `shards` files in turn, at `path(length, shard)`."""

    features: FeatureWriter
    shards: int
    path: Callable[[int | None, int], Path]
    recoding: Recoding | None = None

    def write(
        self, batches: Iterable[pa.RecordBatch], generator: np.random.Generator
    ) -> tuple[Accounts, FactsOfFiles]:
        """Writes the examples of all patients; gives the accounts, and what each file holds."""
        import_tensorflow()  # Here and not above, for the processes that run tasks to be quiet.
        import tensorflow as tf

        accounts = Accounts()
        facts: FactsOfFiles = {}
        writers: dict[int | None, list[tf.io.TFRecordWriter]] = {}
        dealt: Counter[int | None] = Counter()
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
                        own = slice((shard - dealt[length]) % self.shards, None, self.shards)
                        for example in examples[own]:
                            writer.write(example)
                        facts[length, shard] += self.features.facts(length, columns, own)
                    dealt[length] += len(examples)
        return accounts, {
            file: replace(each, bytes=self.path(*file).stat().st_size) for file, each in facts.items()
        }


def _together(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """All patients in one batch, none if there are none."""
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
    """The Parquet files of a split, by name."""
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise UserError(f"{folder} holds no Parquet file of sequences: make it with `ehr-bert preprocess`")
    return files


def _read_sequences(file: Path) -> Iterator[pa.RecordBatch]:
    try:
        yield from pq.ParquetFile(file).iter_batches(columns=["token_ids", "visit_ids", "los_days"])
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file} can't be read as Parquet: {error}") from error
