"""Translation of token ids from one vocabulary to another."""

import numpy as np
import pyarrow as pa

from ehr_bert.examples.windows import check_ids
from ehr_bert.ragged import offsets_of
from ehr_bert.schemas import SpecialToken
from ehr_bert.vocabulary import Vocabulary


class Recoding:
    """Translates the token ids of patients to another vocabulary. Tokens without an id there become `[UNK]`.

    Args:
        source: The vocabulary of the patients.
        target: The other vocabulary.
    """

    def __init__(self, source: Vocabulary, target: Vocabulary) -> None:
        unknown = target.id_of(SpecialToken.UNK)
        self._ids = np.array([target.ids.get(token, unknown) for token in source.tokens], np.int32)  # [V]
        self._is_unknown = np.array([token not in target.ids for token in source.tokens])  # [V]

    def __call__(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, int]:
        """Return the batch in the other vocabulary, and the number of tokens that became `[UNK]`.

        Args:
            batch: Patients with the column `token_ids` of `schemas.SEQUENCES`.

        Raises:
            UserError: An id is not in the vocabulary of the patients (key `ids-out-of-range`).
        """
        index = batch.schema.get_field_index("token_ids")
        lists = batch.column(index)
        ids = lists.flatten().to_numpy()  # [P]
        check_ids(ids, len(self._ids))
        lengths = lists.value_lengths().to_numpy(zero_copy_only=False)
        offsets = offsets_of(lengths).astype(np.int32)
        recoded = pa.ListArray.from_arrays(offsets, pa.array(self._ids[ids]))
        return batch.set_column(index, batch.schema.field(index), recoded), int(self._is_unknown[ids].sum())
