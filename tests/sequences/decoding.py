"""Sequences with tokens instead of ids."""

import pyarrow as pa

from ehr_bert.engines import Engine
from ehr_bert.schemas import OBSERVATION, SEQUENCES, Split
from ehr_bert.sequences.building import PatientHistories
from ehr_bert.vocabulary import Vocabulary


def decoded_sequences(
    engine: Engine, histories: PatientHistories, vocabulary: Vocabulary
) -> dict[Split, dict[str, dict[str, list]]]:
    """Return the columns of `SEQUENCES` by split and patient, with `codes` instead of `token_ids`.

    The columns of `OBSERVATION` are left out.
    """
    splits: dict[Split, dict[str, dict[str, list]]] = {}
    for split, tables in histories.sequences(vocabulary).items():
        splits[split] = {}
        for batch in engine.batches(tables, 1_000):
            for row in pa.Table.from_batches([batch]).cast(SEQUENCES).to_pylist():
                row["codes"] = [vocabulary.tokens[index] for index in row.pop("token_ids")]
                patient = row.pop("patient_id")
                splits[split][patient] = {name: row[name] for name in row if name not in OBSERVATION.names}
    return splits
