"""Token ids of one vocabulary as those of another, by token."""

import numpy as np
import pyarrow as pa

from ehr_bert.examples.windows import check_ids
from ehr_bert.ragged import offsets_of
from ehr_bert.schemas import SpecialToken
from ehr_bert.vocabulary import Vocabulary


class Recoding:
    """Gives patients the token ids of another vocabulary; codes that it lacks become `[UNK]`.

    Args:
        own: The vocabulary that the patients have.
        wanted: The other one.
    """

    def __init__(self, own: Vocabulary, wanted: Vocabulary) -> None:
        unknown = wanted.id_of(SpecialToken.UNK)
        self._ids = np.array([wanted.ids.get(token, unknown) for token in own.tokens], np.int32)  # [V]
        self._lost = np.array([token not in wanted.ids for token in own.tokens])  # [V]

    def __call__(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, int]:
        """A batch of patients under the other vocabulary, and how many of its tokens became unknown.

        Args:
            batch: With the column token_ids of `schemas.SEQUENCES` at least.

        Raises:
            UserError: an id is outside of the patients' vocabulary.
        """
        place = batch.schema.get_field_index("token_ids")
        lists = batch.column(place)
        ids = lists.flatten().to_numpy()  # [N]
        check_ids(ids, len(self._ids))
        lengths = lists.value_lengths().to_numpy(zero_copy_only=False)
        offsets = offsets_of(lengths).astype(np.int32)
        recoded = pa.ListArray.from_arrays(offsets, pa.array(self._ids[ids]))
        return batch.set_column(place, batch.schema.field(place), recoded), int(self._lost[ids].sum())
