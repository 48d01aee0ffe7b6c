"""The sequences folder: Parquet shards by split, the vocabulary, what was rejected, and a summary."""

from pathlib import Path
from typing import Any

from tqdm import tqdm

from ehr_bert.engines import Engine
from ehr_bert.files import SUMMARY_FILE, atomic_folder, write_json
from ehr_bert.schemas import SEQUENCES, Split
from ehr_bert.sequences.building import SequenceOptions, build_histories
from ehr_bert.sequences.parquet import write_rejected
from ehr_bert.sequences.summary import summarise_preprocessing
from ehr_bert.sources import read_diagnoses
from ehr_bert.vocabulary import VOCABULARY_TABLE, Vocabulary

SHARD_PATIENTS = 50_000
"""Patients in a Parquet file, but for the last of a split."""


def write_sequences_folder(
    engine: Engine,
    table: Path,
    folder: Path,
    seed: int = 0,
    sample_size: int = 0,
    given: Vocabulary | None = None,
    options: SequenceOptions | None = None,
) -> dict[str, Any]:
    """Turns a diagnosis table into a sequences folder, which is whole or absent.

    Args:
        engine: Where to compute.
        table: The diagnosis table, as `read_diagnoses` takes it.
        folder: The folder to write: `sequences/<split>/*.parquet`, `vocabulary.tsv`, `rejected.parquet`
            and `summary.json`.
        seed: Decides splits and sample.
        sample_size: How many patients to take, 0 for all.
        given: A vocabulary to keep; otherwise the training split's codes are numbered.
        options: What to change about sequences, if anything.

    Returns:
        The summary.

    Raises:
        UserError: the table can't be used, or `folder` is something else.
    """
    diagnoses = read_diagnoses(engine, table)
    with atomic_folder(folder, "preprocess", table) as temporary:
        histories = build_histories(engine, table, diagnoses, seed, sample_size, options, given)
        vocabulary = histories.vocabulary(given, Split.TRAIN)
        tables_by_split = histories.sequences(vocabulary)
        for split, tables in tqdm(tables_by_split.items(), desc="writing sequences", unit="split"):
            engine.write_parquet(tables, temporary / "sequences" / split, SEQUENCES, SHARD_PATIENTS)
        vocabulary.write(temporary / VOCABULARY_TABLE)
        write_rejected(histories.rejected(), temporary / "rejected.parquet")
        summary = summarise_preprocessing(histories, vocabulary, seed)
        write_json(temporary / SUMMARY_FILE, summary)
    return summary
