"""Packed windows: several whole patients an example, unpadded and unmasked; masking happens in training.

token_ids         int64 [real tokens]   each patient led by `[CLS]`
visit_ids         int64 [real tokens]   visits from 1 in each patient; 0 for `[CLS]`
patient_lengths   int64 [patients]      tokens of each patient, `[CLS]` counted
longest_stays     int64 [patients]      the longest stay of each patient's visits in days

Legend: W windows, R patients, N tokens of all windows together.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Self

import numpy as np
import pyarrow as pa

from ehr_bert.errors import UserError
from ehr_bert.examples.facts import PackedFacts
from ehr_bert.examples.masking import maskable_ids
from ehr_bert.examples.packing import WINDOW_LENGTHS, pack
from ehr_bert.examples.protobuf import Column
from ehr_bert.examples.windows import Accounts, LongPatients, check_ids, cut
from ehr_bert.ragged import offsets_of, spans, starts_of
from ehr_bert.schemas import SpecialToken
from ehr_bert.vocabulary import Vocabulary

PACKED = "packed"
"""The name of this kind of examples."""


@dataclass(frozen=True)
class PackedSettings:
    """How windows are packed.

    Attributes:
        seed: Of who shares a window with whom, and of the order of the windows.
        window_lengths: The lengths that windows may have, ascending.
        long_patients: What becomes of patients longer than the longest window.

    Raises:
        UserError: a number is out of range.
    """

    seed: int
    window_lengths: tuple[int, ...] = WINDOW_LENGTHS
    long_patients: LongPatients = LongPatients.SPLIT

    def __post_init__(self) -> None:
        lengths = self.window_lengths
        if not lengths or lengths[0] < 2 or any(a >= b for a, b in pairwise(lengths)):
            raise UserError(
                f"the window lengths are {', '.join(map(str, lengths)) or 'none'}: give ascending ones, "
                "each of 2 tokens at least"
            )
        if self.seed < 0:
            raise UserError(f"the seed is {self.seed}: it must be 0 at least")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The settings of a sidecar's JSON."""
        return cls(
            **{
                **values,
                "window_lengths": tuple(values["window_lengths"]),
                "long_patients": LongPatients(values["long_patients"]),
            }
        )


class PackedFeatures:
    """Makes the features of batches of patients.

    Attributes:
        kind: `PACKED`.
        always_written: Lengths whose files are written even if they hold nothing.
        no_facts: Those of an empty file.
        settings: As given.
        mask_id: The id that hides a code in training.
        cls_id: The id of the `[CLS]` that leads each patient.
    """

    kind = PACKED
    always_written: tuple[int | None, ...] = ()
    no_facts = PackedFacts()

    def __init__(self, settings: PackedSettings, vocabulary: Vocabulary) -> None:
        self.settings = settings
        self.mask_id = vocabulary.id_of(SpecialToken.MASK)
        self.cls_id = vocabulary.id_of(SpecialToken.CLS)
        self._maskable = maskable_ids(vocabulary)

    def by_length(
        self, batch: pa.RecordBatch, generator: np.random.Generator
    ) -> tuple[dict[int | None, dict[str, Column]], Accounts]:
        """The features of a batch's packed windows, by the length of the windows.

        Raises:
            UserError: an id is outside of the vocabulary.
        """
        window_lengths = self.settings.window_lengths
        patients, accounts = cut(batch, window_lengths[-1] - 1, self.settings.long_patients, False)
        check_ids(patients.tokens, len(self._maskable))
        patients = patients.with_cls(self.cls_id)
        packing = pack(patients.lengths, window_lengths, generator)

        lengths = patients.lengths[packing.order]  # [R]
        places = spans(starts_of(patients.lengths)[packing.order], lengths)  # [N]
        tokens, visits = patients.tokens[places], patients.visits[places]  # [N]
        stays = patients.longest_stays[packing.order]  # [R]
        patient_ends = offsets_of(packing.patients)
        token_ends = offsets_of(lengths)

        columns: dict[int | None, dict[str, Column]] = {}
        for length, first, stop in _runs(packing.lengths):
            own = slice(patient_ends[first], patient_ends[stop])  # patients of the windows of that length
            own_tokens = slice(token_ends[own.start], token_ends[own.stop])
            counts = packing.patients[first:stop]  # [W]
            real = np.add.reduceat(lengths[own], starts_of(counts))  # [W]
            columns[length] = {
                "token_ids": Column(tokens[own_tokens], real),
                "visit_ids": Column(visits[own_tokens], real),
                "patient_lengths": Column(lengths[own], counts),
                "longest_stays": Column(stays[own], counts),
            }
        return columns, replace(accounts, examples=len(packing.lengths))

    def facts(self, length: int | None, columns: Mapping[str, Column], own: slice) -> PackedFacts:
        """What some of the windows of that length hold; `bytes` is left at 0."""
        tokens, patients = columns["token_ids"], columns["patient_lengths"]
        codes = np.add.reduceat(self._maskable[tokens.values], starts_of(tokens.lengths), dtype=np.int64)
        longest = np.maximum.reduceat(patients.values, starts_of(patients.lengths))
        return PackedFacts(
            records=len(codes[own]),
            real_tokens=int(tokens.lengths[own].sum()),
            longest=int(longest[own].max(initial=0)),
            window_length=length or 0,
            patients=int(patients.lengths[own].sum()),
            codes=int(codes[own].sum()),
            most_patients=int(patients.lengths[own].max(initial=0)),
        )


def _runs(values: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Each value of an ascending array, with where it begins and ends."""
    found, starts = np.unique(values, return_index=True)
    borders = pairwise([*starts.tolist(), len(values)])
    yield from ((value, first, stop) for value, (first, stop) in zip(found.tolist(), borders, strict=True))
