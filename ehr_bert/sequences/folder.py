"""The sequences folder: Parquet files by split, the vocabulary, the rejected rows and a summary."""

import logging
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from ehr_bert.engines import Engine
from ehr_bert.files import SUMMARY_FILE, atomic_folder, write_json
from ehr_bert.logs import progress_bar
from ehr_bert.schemas import SEQUENCES, Split
from ehr_bert.sequences.building import SequenceOptions, build_histories
from ehr_bert.sequences.parquet import write_rejected
from ehr_bert.sequences.summary import summarise_preprocessing
from ehr_bert.sources import read_events
from ehr_bert.vocabulary import VOCABULARY_TABLE, Vocabulary

logger = logging.getLogger(__name__)

SHARD_PATIENTS = 50_000
"""Number of patients per Parquet file; the last file of a split may have fewer."""


def write_sequences_folder(
    engine: Engine,
    table: Path,
    folder: Path,
    seed: int = 0,
    sample_size: int = 0,
    given: Vocabulary | None = None,
    options: SequenceOptions | None = None,
    zone: ZoneInfo | None = None,
) -> dict[str, Any]:
    """Convert a diagnosis table to a sequences folder, atomically.

    Args:
        engine: Engine that computes the sequences.
        table: The diagnosis table, in a format that `read_events` supports.
        folder: Folder to write: `sequences/<split>/*.parquet`, `vocabulary.tsv`, `rejected.parquet` and
            `summary.json`.
        seed: Seed of splits and sample.
        sample_size: Number of patients to sample, 0 for all.
        given: A vocabulary to extend. Without one the codes of the training split are numbered.
        options: Options of the sequences.
        zone: Time zone of the days of a Parquet table, as for `read_events`.

    Returns:
        The summary.

    Raises:
        UserError: The table cannot be used (see `build_histories`), or `folder` was not written by this stage
            (key `output-not-empty`).
    """
    events = read_events(engine, table, zone)
    with atomic_folder(folder, "preprocess", table) as temporary:
        histories = build_histories(engine, events, seed, sample_size, options, given)
        vocabulary = histories.vocabulary(given, Split.TRAIN)
        tables_by_split = histories.sequences(vocabulary)
        for split, tables in progress_bar(
            logger, tables_by_split.items(), desc="writing sequences", unit="split"
        ):
            engine.write_parquet(tables, temporary / "sequences" / split, SEQUENCES, SHARD_PATIENTS)
        vocabulary.write(temporary / VOCABULARY_TABLE)
        write_rejected(histories.rejected(), temporary / "rejected.parquet")
        summary = summarise_preprocessing(histories, vocabulary, seed)
        write_json(temporary / SUMMARY_FILE, summary)
    return summary
