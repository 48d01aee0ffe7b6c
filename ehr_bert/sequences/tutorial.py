"""The tutorial's files: pickles of the patients of each split, and the ids of the codes.

Legend: C codes and K visits of a batch.
"""

import logging
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ehr_bert.engines import Engine
from ehr_bert.files import atomic_files, write_json
from ehr_bert.logs import progress_bar
from ehr_bert.pickles import write_bencs, write_pickles
from ehr_bert.ragged import offsets_of
from ehr_bert.schemas import Split
from ehr_bert.sequences.building import build_histories
from ehr_bert.sequences.parquet import write_rejected
from ehr_bert.sequences.summary import summarise_preprocessing
from ehr_bert.sources import read_tutorial_table
from ehr_bert.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

PICKLED_PATIENTS = 100_000
"""Number of patients per pickle of a `.bencs` or `.ptencs` file, as in the original."""


def write_tutorial_files(
    engine: Engine,
    table: Path,
    prefix: Path,
    seed: int = 0,
    sample_size: int = 0,
    given: Vocabulary | None = None,
) -> dict[str, Any]:
    """Convert the tutorial's table to the tutorial's files, atomically.

    Args:
        engine: Engine that computes the sequences.
        table: The tutorial's table.
        prefix: Prefix of the files `.bencs.<split>`, `.ptencs.<split>`, `.rejected.parquet`, `.summary.json`
            and `.types`. The last is written last.
        seed: Seed of splits and sample.
        sample_size: Number of patients to sample, 0 for all.
        given: A vocabulary to extend. Without one the codes of all splits are numbered.

    Returns:
        The summary.

    Raises:
        UserError: The table cannot be used; see `build_histories`.
    """
    events = read_tutorial_table(engine, table)
    suffixes = [f"{kind}.{split}" for split in Split for kind in ("bencs", "ptencs")]
    paths = [
        Path(f"{prefix}.{suffix}") for suffix in (*suffixes, "rejected.parquet", "summary.json", "types")
    ]
    with atomic_files(*paths) as (*pickle_paths, rejected_path, summary_path, types_path):
        histories = build_histories(engine, events, seed, sample_size)
        vocabulary = histories.vocabulary(given, *Split)
        tables_by_split = histories.sequences(vocabulary)
        for (split, tables), bencs, ptencs in zip(
            tables_by_split.items(), pickle_paths[::2], pickle_paths[1::2], strict=True
        ):
            batches = progress_bar(
                logger, engine.batches(tables, PICKLED_PATIENTS), desc=f"writing {split}", unit="pickle"
            )
            write_bencs(bencs, batches, histories.integer_ids)
            write_ptencs(ptencs, engine.batches(tables, PICKLED_PATIENTS), vocabulary)
        write_rejected(histories.rejected(), rejected_path)
        summary = summarise_preprocessing(histories, vocabulary, seed)
        write_json(summary_path, summary)
        write_pickles(types_path, [vocabulary.to_types()])
    return summary


def write_ptencs(path: Path, batches: Iterable[pa.RecordBatch], vocabulary: Vocabulary) -> None:
    """Write batches of `SEQUENCES` as a `.ptencs` file.

    A patient is a list with one element, the list of visits `[los, days_to_next, codes, ids]`.
    """
    tokens = np.array(vocabulary.tokens, dtype=object)
    write_pickles(path, (_visit_records(batch, tokens) for batch in batches))


def _visit_records(batch: pa.RecordBatch, tokens: np.ndarray) -> list[list[list[list[Any]]]]:
    """Return one record per patient, made from the flat columns of a batch."""
    ids, visit_ids, los, days_to_next = (
        batch.column(name).flatten().to_numpy()
        for name in ("token_ids", "visit_ids", "los_days", "days_to_next")
    )  # [C], [C], [K], [K]
    starts_visit = np.diff(visit_ids, prepend=0) != 0  # [C]
    starts_visit[_offsets(batch.column("token_ids"))[:-1]] = True
    visit_offsets = np.append(np.flatnonzero(starts_visit), len(ids)).tolist()  # [K + 1]
    id_list, code_list = ids.tolist(), tokens[ids].tolist()
    visits = [
        [stay, gap, code_list[start:end], id_list[start:end]]
        for stay, gap, (start, end) in zip(
            los.tolist(), days_to_next.tolist(), pairwise(visit_offsets), strict=True
        )
    ]
    return [[visits[start:end]] for start, end in pairwise(_offsets(batch.column("los_days")).tolist())]


def _offsets(lists: pa.ListArray) -> np.ndarray:
    """Return the start of each list in the flat values and, last, the number of values."""
    return offsets_of(pc.list_value_length(lists).to_numpy())
