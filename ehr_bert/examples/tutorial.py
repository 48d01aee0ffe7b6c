"""The tutorial's seven features: one padded window per example, masked when it is written.

input_ids, input_mask, segment_ids                        int64 [max_seq_length]
masked_lm_positions, masked_lm_ids                        int64 [max_predictions_per_seq]
masked_lm_weights                                         float [max_predictions_per_seq]
next_sentence_labels: whether a stay was prolonged        int64 [1]

Segment ids number the visits from 1 in each window; padding and `[CLS]` have segment 0.

Legend: W windows, M masked positions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa

from ehr_bert.errors import UserError
from ehr_bert.examples.facts import FileFacts
from ehr_bert.examples.masking import Masking
from ehr_bert.examples.protobuf import Column
from ehr_bert.examples.windows import CUT_COLUMNS, Accounts, LongPatients, check_ids, cut
from ehr_bert.ragged import starts_of
from ehr_bert.schemas import PROLONGED_STAY_DAYS, SpecialToken
from ehr_bert.vocabulary import Vocabulary

TUTORIAL = "tutorial"
"""Name of this kind of examples."""


@dataclass(frozen=True)
class TutorialSettings:
    """Settings of the tutorial's examples.

    Attributes:
        max_seq_length: Maximum number of tokens per window.
        max_predictions_per_seq: Maximum number of masked codes per window.
        masked_lm_prob: Share of the codes of a window to mask.
        seed: Seed of the masking.
        long_patients: How to handle patients with more codes than a window.
        med_bert: Reproduce Med-BERT: masked codes become id 0, there is no `[CLS]`, random replacements are
            drawn from id 1 to the last code, and patients are excluded if they are longer than a window or
            their first stay is 0 days or less.

    Raises:
        UserError: A number is out of range (key `invalid-setting`).
    """

    max_seq_length: int
    max_predictions_per_seq: int
    masked_lm_prob: float
    seed: int
    long_patients: LongPatients = LongPatients.SPLIT
    med_bert: bool = False

    def __post_init__(self) -> None:
        if self.max_seq_length < 2:
            raise _out_of_range("max_seq_length", self.max_seq_length, "2 or more")
        if not 0 < self.masked_lm_prob <= 1:
            raise _out_of_range("masked_lm_prob", self.masked_lm_prob, "above 0 and at most 1")
        if self.max_predictions_per_seq < 1:
            raise _out_of_range("max_predictions_per_seq", self.max_predictions_per_seq, "1 or more")
        if self.seed < 0:
            raise _out_of_range("seed", self.seed, "0 or more")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Create the settings from the JSON of a sidecar."""
        return cls(**{**values, "long_patients": LongPatients(values["long_patients"])})


def _out_of_range(name: str, value: float, allowed: str) -> UserError:
    return UserError("invalid-setting", f"{name} must be {allowed}, not {value}.")


class TutorialFeatures:
    """Computes the seven features of batches of patients.

    Attributes:
        kind: `TUTORIAL`.
        always_written: Window lengths whose files are written even without examples.
        no_facts: Counts of a file without examples.
        settings: The given settings, with those that `med_bert` implies.
        mask_id: Id that replaces a masked code.
        cls_id: Id of the `[CLS]` that precedes each window, or None.
        observation: As in `PackedFeatures`. These examples do not store it.
        sequence_columns: The columns of `schemas.SEQUENCES` that are used.
    """

    kind = TUTORIAL
    observation = False
    sequence_columns = CUT_COLUMNS
    always_written: tuple[int | None, ...] = (None,)
    no_facts = FileFacts()

    def __init__(self, settings: TutorialSettings, vocabulary: Vocabulary) -> None:
        self.vocab_size = len(vocabulary)
        self.cls_id: int | None
        if settings.med_bert:
            self.settings = replace(settings, long_patients=LongPatients.DROP)
            self.mask_id, self.cls_id = vocabulary.id_of(SpecialToken.PAD), None
            last_code = vocabulary.code_ids.max(initial=0)
            replacements = np.arange(1, last_code + 1, dtype=np.int32)
        else:
            self.settings = settings
            self.mask_id = vocabulary.id_of(SpecialToken.MASK)
            self.cls_id = vocabulary.id_of(SpecialToken.CLS)
            replacements = vocabulary.code_ids
        self.masking = Masking.of(
            vocabulary,
            self.mask_id,
            replacements,
            settings.masked_lm_prob,
            settings.max_predictions_per_seq,
        )

    def columns(
        self, batch: pa.RecordBatch, generator: np.random.Generator
    ) -> tuple[dict[str, Column], Accounts]:
        """Return the features of the windows of a batch, and the counts of its patients.

        Raises:
            UserError: An id is not in the vocabulary (key `ids-out-of-range`).
        """
        settings = self.settings
        capacity = settings.max_seq_length - (self.cls_id is not None)
        windows, accounts = cut(batch, capacity, settings.long_patients, settings.med_bert)
        check_ids(windows.tokens, self.vocab_size)
        if self.cls_id is not None:
            windows = windows.with_cls(self.cls_id)
        masked = self.masking.mask(windows, generator)

        positions = masked.positions - np.repeat(starts_of(windows.lengths), masked.counts)  # [M]
        ones = np.ones_like(windows.lengths)  # [W]
        prolonged = windows.longest_stays > PROLONGED_STAY_DAYS  # [W]

        def of_tokens(values: np.ndarray) -> Column:
            return Column(values, windows.lengths, settings.max_seq_length)

        def of_masked(values: np.ndarray) -> Column:
            return Column(values, masked.counts, settings.max_predictions_per_seq)

        return {
            "input_ids": of_tokens(masked.inputs),
            "input_mask": of_tokens(np.ones_like(windows.tokens)),
            "segment_ids": of_tokens(windows.visits),
            "masked_lm_positions": of_masked(positions),
            "masked_lm_ids": of_masked(windows.tokens[masked.positions]),
            "masked_lm_weights": of_masked(np.ones(len(positions), np.float32)),
            "next_sentence_labels": Column(prolonged.astype(np.int32), ones, 1),
        }, accounts

    def by_length(
        self, batch: pa.RecordBatch, generator: np.random.Generator
    ) -> tuple[dict[int | None, dict[str, Column]], Accounts]:
        """Return the features by window length. All go to the same files, so the only key is None."""
        columns, accounts = self.columns(batch, generator)
        return {None: columns}, accounts

    def facts(self, _: int | None, columns: Mapping[str, Column], own: slice) -> FileFacts:
        """Return the counts of the examples in the slice `own`, without `bytes`."""
        lengths = columns["input_ids"].lengths[own]
        return FileFacts(
            records=len(lengths), real_tokens=int(lengths.sum()), longest=int(lengths.max(initial=0))
        )
