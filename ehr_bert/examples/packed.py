"""Packed windows: several whole patients per example, without padding. Masking happens in training.

token_ids         int64 [real tokens]   each patient starts with `[CLS]`
visit_ids         int64 [real tokens]   visits from 1 in each patient; 0 for `[CLS]`
patient_lengths   int64 [patients]      tokens of each patient, including `[CLS]`
longest_stays     int64 [patients]      longest stay of each patient, in days

If the end of observation or the death of any patient is known, also (-1 if unknown, see `observation`):

days_to_observation_end, days_to_death   int64 [patients]   days from the last discharge, at least 0

Legend: W windows, N patients, P tokens of all windows together.
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
from ehr_bert.examples.observation import DAYS_TO, days_after
from ehr_bert.examples.packing import WINDOW_LENGTHS, pack
from ehr_bert.examples.protobuf import Column
from ehr_bert.examples.windows import CUT_COLUMNS, Accounts, LongPatients, check_ids, cut
from ehr_bert.ragged import offsets_of, spans, starts_of
from ehr_bert.schemas import SpecialToken
from ehr_bert.vocabulary import Vocabulary

PACKED = "packed"
"""Name of this kind of examples."""


@dataclass(frozen=True)
class PackedSettings:
    """How windows are packed.

    Attributes:
        seed: Seed of the assignment of patients to windows, and of the order of windows.
        window_lengths: Lengths of windows, ascending.
        long_patients: How patients longer than the longest window are handled.

    Raises:
        UserError: The lengths are not ascending or too small (key `invalid-window-lengths`), or the seed is
            negative (`negative-seed`).
    """

    seed: int
    window_lengths: tuple[int, ...] = WINDOW_LENGTHS
    long_patients: LongPatients = LongPatients.SPLIT

    def __post_init__(self) -> None:
        lengths = self.window_lengths
        if not lengths or lengths[0] < 2 or any(a >= b for a, b in pairwise(lengths)):
            raise UserError(
                "invalid-window-lengths",
                f"the window lengths are {', '.join(map(str, lengths)) or 'missing'}. Use ascending lengths "
                "of at least 2 tokens.",
            )
        if self.seed < 0:
            raise UserError("negative-seed", f"the seed is {self.seed}. It must be 0 or more.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the settings of an `examples.json`."""
        return cls(
            **{
                **values,
                "window_lengths": tuple(values["window_lengths"]),
                "long_patients": LongPatients(values["long_patients"]),
            }
        )


class PackedFeatures:
    """Makes packed features of batches of patients.

    Attributes:
        kind: `PACKED`.
        always_written: Lengths whose files are written even if they are empty.
        no_facts: Facts of an empty file.
        settings: The settings.
        mask_id: Id that hides a code in training.
        cls_id: Id of the `[CLS]` at the start of each patient.
        observation: Whether the features of `observation.DAYS_TO` are stored.
        sequence_columns: The columns of `schemas.SEQUENCES` that are used, if a file has them.
    """

    kind = PACKED
    always_written: tuple[int | None, ...] = ()
    no_facts = PackedFacts()

    def __init__(self, settings: PackedSettings, vocabulary: Vocabulary, observation: bool = False) -> None:
        self.settings = settings
        self.observation = observation
        self.sequence_columns = (*CUT_COLUMNS, *(("admit_date", *DAYS_TO.values()) if observation else ()))
        self.mask_id = vocabulary.id_of(SpecialToken.MASK)
        self.cls_id = vocabulary.id_of(SpecialToken.CLS)
        self._maskable = maskable_ids(vocabulary)

    def by_length(
        self, batch: pa.RecordBatch, generator: np.random.Generator
    ) -> tuple[dict[int | None, dict[str, Column]], Accounts]:
        """Return the features of the packed windows of a batch, by window length.

        Raises:
            UserError: An id is not in the vocabulary.
        """
        window_lengths = self.settings.window_lengths
        patients, accounts = cut(batch, window_lengths[-1] - 1, self.settings.long_patients, False)
        check_ids(patients.tokens, len(self._maskable))
        patients = patients.with_cls(self.cls_id)
        packing = pack(patients.lengths, window_lengths, generator)

        lengths = patients.lengths[packing.order]  # [N]
        places = spans(starts_of(patients.lengths)[packing.order], lengths)  # [P]
        tokens, visits = patients.tokens[places], patients.visits[places]  # [P]
        by_patient = {"longest_stays": patients.longest_stays}  # [N] each
        if self.observation:
            by_patient |= days_after(batch, patients.last_visits)
        by_patient = {name: values[packing.order] for name, values in by_patient.items()}
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
                **{name: Column(values[own], counts) for name, values in by_patient.items()},
            }
        return columns, replace(accounts, examples=len(packing.lengths))

    def facts(self, length: int | None, columns: Mapping[str, Column], own: slice) -> PackedFacts:
        """Return the facts of a slice of the windows of one length. `bytes` is 0."""
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
    """Yield each value of an ascending array, with its first position and the position after its last."""
    distinct, starts = np.unique(values, return_index=True)
    borders = pairwise([*starts.tolist(), len(values)])
    yield from ((value, first, stop) for value, (first, stop) in zip(distinct.tolist(), borders, strict=True))
