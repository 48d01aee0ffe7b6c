"""The tutorial's seven features: one window an example, padded, and masked when it is written.

input_ids, input_mask, segment_ids                        int64 [max_seq_length]
masked_lm_positions, masked_lm_ids                        int64 [max_predictions_per_seq]
masked_lm_weights                                         float [max_predictions_per_seq]
next_sentence_labels: whether a stay was prolonged        int64 [1]

Segment ids are visits, from 1 in each window; 0 is padding, and the segment of `[CLS]`.
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
from ehr_bert.examples.windows import Accounts, LongPatients, check_ids, cut
from ehr_bert.ragged import starts_of
from ehr_bert.schemas import PROLONGED_STAY_DAYS, SpecialToken
from ehr_bert.vocabulary import Vocabulary

TUTORIAL = "tutorial"
"""The name of this kind of examples."""


@dataclass(frozen=True)
class TutorialSettings:
    """How examples are made.

    Attributes:
        max_seq_length: Tokens of a window at most.
        max_predictions_per_seq: Masked codes of a window at most.
        masked_lm_prob: The share of a window's codes to mask.
        seed: Of the masking.
        long_patients: What becomes of patients longer than a window.
        med_bert: Med-BERT's choices: codes are hidden by id 0; there is no `[CLS]`; a random replacement is
            any id from 1 to the last code's; patients who are too long, or whose first stay is 0 days or
            less, are left out.

    Raises:
        UserError: a number is out of range.
    """

    max_seq_length: int
    max_predictions_per_seq: int
    masked_lm_prob: float
    seed: int
    long_patients: LongPatients = LongPatients.SPLIT
    med_bert: bool = False

    def __post_init__(self) -> None:
        if self.max_seq_length < 2:
            raise UserError(f"max_seq_length is {self.max_seq_length}: a window takes 2 tokens at least")
        if not 0 < self.masked_lm_prob <= 1:
            raise UserError(f"masked_lm_prob is {self.masked_lm_prob}: it must be above 0 and at most 1")
        if self.max_predictions_per_seq < 1:
            raise UserError(
                f"max_predictions_per_seq is {self.max_predictions_per_seq}: it must be 1 at least"
            )
        if self.seed < 0:
            raise UserError(f"the seed is {self.seed}: it must be 0 at least")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The settings of a sidecar's JSON."""
        return cls(**{**values, "long_patients": LongPatients(values["long_patients"])})


class TutorialFeatures:
    """Makes the seven features of batches of patients.

    Attributes:
        kind: `TUTORIAL`.
        always_written: Lengths whose files are written even if they hold nothing.
        no_facts: Those of an empty file.
        settings: As given, with what `med_bert` implies.
        mask_id: The id that hides a code.
        cls_id: The id of the `[CLS]` that leads each window, or None.
    """

    kind = TUTORIAL
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
        """The features of a batch's windows.

        Raises:
            UserError: an id is outside of the vocabulary.
        """
        settings = self.settings
        capacity = settings.max_seq_length - (self.cls_id is not None)
        windows, accounts = cut(batch, capacity, settings.long_patients, settings.med_bert)
        check_ids(windows.tokens, self.vocab_size)
        if self.cls_id is not None:
            windows = windows.with_cls(self.cls_id)
        masked = self.masking.mask(windows, generator)

        positions = masked.places - np.repeat(starts_of(windows.lengths), masked.counts)  # [M]
        one_each = np.ones_like(windows.lengths)  # [W]
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
            "masked_lm_ids": of_masked(windows.tokens[masked.places]),
            "masked_lm_weights": of_masked(np.ones(len(positions), np.float32)),
            "next_sentence_labels": Column(prolonged.astype(np.int32), one_each, 1),
        }, accounts

    def by_length(
        self, batch: pa.RecordBatch, generator: np.random.Generator
    ) -> tuple[dict[int | None, dict[str, Column]], Accounts]:
        """The features of a batch's windows, which all go to the same files, of no one length."""
        columns, accounts = self.columns(batch, generator)
        return {None: columns}, accounts

    def facts(self, _: int | None, columns: Mapping[str, Column], own: slice) -> FileFacts:
        """What some of the examples hold; `bytes` is left at 0."""
        lengths = columns["input_ids"].lengths[own]
        return FileFacts(
            records=len(lengths), real_tokens=int(lengths.sum()), longest=int(lengths.max(initial=0))
        )
