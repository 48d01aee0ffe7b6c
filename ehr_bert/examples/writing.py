"""From sequences to TFRecord files of examples, with what stands beside them."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from ehr_bert.errors import UserError
from ehr_bert.examples.protobuf import serialize
from ehr_bert.examples.sidecars import INFO_NAME, VOCABULARY_NAME, FileFacts, Sidecar, sidecar_path
from ehr_bert.examples.tutorial import KIND, TutorialFeatures, TutorialSettings
from ehr_bert.examples.windows import Accounts
from ehr_bert.files import FOLDER_MARK, folder_written_aside, written_aside
from ehr_bert.quiet import import_tensorflow
from ehr_bert.schemas import Split
from ehr_bert.tasks import Processes, TaskRunner
from ehr_bert.vocabulary import Vocabulary

PATIENTS_AT_A_TIME = 4096
"""Patients that are in memory as examples at one time; the examples don't depend on it."""

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
    vocabularies = [sidecar_path(file, VOCABULARY_NAME) for file in files]
    with written_aside(*files, *vocabularies, *infos) as asides:
        aside = dict(zip((*files, *vocabularies, *infos), asides, strict=True))
        generator = np.random.default_rng(settings.seed)
        with tqdm(desc="examples", unit=" patients", disable=None) as progress:
            accounts, facts = _write_records(
                _counted(batches, progress), features, generator, [aside[file] for file in files]
            )
        for file, vocabulary_path, info, fact in zip(files, vocabularies, infos, facts, strict=True):
            vocabulary.write(aside[vocabulary_path])
            _sidecar(features, vocabulary, {source: accounts}, {file.name: fact}).write(aside[info])
    return accounts


def write_folder(
    sequences: Path,
    output: Path,
    settings: TutorialSettings,
    shards: int,
    run: TaskRunner | None = None,
) -> dict[str, Accounts]:
    """Writes the examples of a folder of sequences: `<split>-<shard>-of-<shards>.tfrecord` and sidecars.

    Args:
        sequences: A folder of `ehr-bert preprocess`: `sequences/<split>/*.parquet` and `vocabulary.tsv`.
        output: The folder to write; an earlier one is replaced.
        settings: How to make examples.
        shards: Files a split; examples are dealt out to them.
        run: Runs a task for each file of sequences, by default here, one by one. The examples are the same,
            whatever runs them.

    Returns:
        The accounts of each split.

    Raises:
        UserError: `sequences` lacks something, or holds something else; `output` is no earlier output.
    """
    if shards < 1:
        raise UserError(f"shards is {shards}: it must be 1 at least")
    vocabulary = Vocabulary.read(sequences / VOCABULARY_NAME)
    features = TutorialFeatures(settings, vocabulary)
    run = run or Processes(1)
    accounts: dict[str, Accounts] = {}
    facts: dict[str, FileFacts] = {}
    with folder_written_aside(output) as folder:
        parts = {
            split: [
                _Part(file.absolute(), folder.absolute(), shards, features, (settings.seed, number, index))
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
            for shard in range(shards):
                name = f"{split}-{shard:05}-of-{shards:05}.tfrecord"
                _concatenate([part.path(shard) for part in of_split], folder / name)
                facts[name] = sum((results[part][1][shard] for part in of_split), FileFacts())
        vocabulary.write(folder / VOCABULARY_NAME)
        _sidecar(features, vocabulary, accounts, facts).write(folder / INFO_NAME)
        summary = {split: asdict(each) for split, each in accounts.items()}
        (folder / FOLDER_MARK).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return accounts


@dataclass(frozen=True, eq=False)
class _Part:
    """The examples of one file of sequences, dealt out to as many files as a split has shards."""

    sequences: Path
    folder: Path
    shards: int
    features: TutorialFeatures
    seed: tuple[int, int, int]
    """The seed of all, the number of the split, and that of the file."""

    def path(self, shard: int) -> Path:
        _, split, file = self.seed
        return self.folder / f".{split}-{file:05}-{shard:05}"


def _write_part(part: _Part) -> tuple[Accounts, list[FileFacts]]:
    files = [part.path(shard) for shard in range(part.shards)]
    return _write_records(
        _read_sequences(part.sequences), part.features, np.random.default_rng(part.seed), files
    )


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
    features: TutorialFeatures,
    vocabulary: Vocabulary,
    accounts: Mapping[str, Accounts],
    facts: Mapping[str, FileFacts],
) -> Sidecar:
    return Sidecar(
        kind=KIND,
        settings=features.settings,
        mask_id=features.mask_id,
        cls_id=features.cls_id,
        vocab_size=len(vocabulary),
        vocabulary_sha256=vocabulary.sha256,
        accounts=accounts,
        files=facts,
    )


def _write_records(
    batches: Iterable[pa.RecordBatch],
    features: TutorialFeatures,
    generator: np.random.Generator,
    files: Sequence[Path],
) -> tuple[Accounts, list[FileFacts]]:
    """Writes the examples to the files in turn; gives the accounts, and what each file holds."""
    import_tensorflow()  # Here and not above, for the processes that run tasks to be quiet.
    import tensorflow as tf

    accounts = Accounts()
    records, real_tokens, longest = np.zeros((3, len(files)), np.int64)
    with ExitStack() as stack:
        writers = [stack.enter_context(tf.io.TFRecordWriter(str(file))) for file in files]
        for batch in _smaller(batches):
            columns, batch_accounts = features.columns(batch, generator)
            examples, lengths = serialize(columns), columns["input_ids"].lengths
            for index, writer in enumerate(writers):
                own = slice((index - accounts.examples) % len(files), None, len(files))
                for example in examples[own]:
                    writer.write(example)
                records[index] += len(lengths[own])
                real_tokens[index] += lengths[own].sum()
                longest[index] = lengths[own].max(initial=longest[index])
            accounts += batch_accounts
    sizes = [file.stat().st_size for file in files]
    facts = zip(records.tolist(), sizes, real_tokens.tolist(), longest.tolist(), strict=True)
    return accounts, [FileFacts(*fact) for fact in facts]


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
