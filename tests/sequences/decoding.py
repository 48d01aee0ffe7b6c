"""Sequences with their ids turned back into tokens."""

import pyarrow as pa

from ehr_bert.engines import Engine
from ehr_bert.schemas import SEQUENCES, Split
from ehr_bert.sequences.building import PatientHistories
from ehr_bert.vocabulary import Vocabulary


def decoded_sequences(
    engine: Engine, histories: PatientHistories, vocabulary: Vocabulary
) -> dict[Split, dict[str, dict[str, list]]]:
    """By split and patient, the columns of `SEQUENCES`, with `codes` in place of `token_ids`."""
    splits: dict[Split, dict[str, dict[str, list]]] = {}
    for split, tables in histories.sequences(vocabulary).items():
        splits[split] = {}
        for batch in engine.batches(tables, 1_000):
            for row in pa.Table.from_batches([batch]).cast(SEQUENCES).to_pylist():
                row["codes"] = [vocabulary.tokens[index] for index in row.pop("token_ids")]
                splits[split][row.pop("patient_id")] = row
    return splits
