"""Histories as a model reads them: token ids and visit ids, in flat arrays.

An export folder's model reads a history as its `HistoryTokenizer` reads the same text; but here each distinct
code is looked up once, however many histories have it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ehr_bert.cohorts.cohort import Histories
from ehr_bert.errors import UserError
from ehr_bert.export.history_tokenizer import HistoryTokenizer, headings
from ehr_bert.ragged import offsets_of, spans, starts_of
from ehr_bert.schemas import SpecialToken, is_context

MAX_LENGTH = 512
"""Tokens that a model from scratch reads of a history."""

MAX_VISITS = 1000
"""Visits that a model from scratch tells apart, one more than are read of a history."""


@dataclass(frozen=True)
class ModelVocabulary:
    """What a model can read.

    Attributes:
        ids: Token to id.
        pad_id: Fills up shorter histories of a batch.
        unk_id: Stands for unknown codes; None where the model can't read them.
        cls_id: Stands before a history; None where nothing does.
        type_vocab_size: Visit ids that the model can tell apart, 0 among them.
        max_length: The most tokens of a history.
    """

    ids: Mapping[str, int]
    pad_id: int
    unk_id: int | None
    cls_id: int | None
    type_vocab_size: int
    max_length: int

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of_folder(cls, folder: Path) -> "ModelVocabulary":
        """The vocabulary of an export folder, or of a saved predictor.

        Raises:
            UserError: the folder holds no tokenizer of histories.
        """
        if not (folder / "vocab.json").is_file():  # what is no folder would be looked for on the network
            raise UserError(f"{folder} holds no vocab.json: name a folder that `ehr-bert convert` made")
        try:
            tokenizer = HistoryTokenizer.from_pretrained(folder)
        except (OSError, TypeError, ValueError) as error:
            raise UserError(f"{folder} is no model that `ehr-bert convert` made: {error}") from error
        return cls(
            ids=tokenizer.get_vocab(),
            pad_id=tokenizer.pad_token_id,
            unk_id=tokenizer.unk_token_id,
            cls_id=tokenizer.cls_token_id,
            type_vocab_size=tokenizer.type_vocab_size,
            max_length=tokenizer.model_max_length,
        )

    @classmethod
    def of_codes(cls, histories: Histories) -> "ModelVocabulary":
        """The vocabulary of a model from scratch: the codes that its training histories have.

        Codes that it never sees are read as padding, which adds nothing.
        """
        tokens = [SpecialToken.PAD.value, *histories.vocabulary[np.unique(histories.codes)]]
        ids = {token: index for index, token in enumerate(tokens)}
        return cls(ids, pad_id=0, unk_id=0, cls_id=None, type_vocab_size=MAX_VISITS, max_length=MAX_LENGTH)

    def read_as(self, codes: np.ndarray) -> np.ndarray:
        """The id that each code is read as: its own, or the next heading's above it, or that of `[UNK]`.

        Tokens of context that the model wasn't trained with are no codes, and left out.

        Args:
            codes: Distinct codes: object `[K]`.

        Returns:
            int64 `[K]`, -1 for what is left out.

        Raises:
            UserError: a code is unknown, and the model has no `[UNK]`.
        """
        return np.fromiter(map(self._read_as, codes), dtype=np.int64, count=len(codes))

    def _read_as(self, code: str) -> int:
        for known in (code, *headings(code)):
            if known in self.ids:
                return self.ids[known]
        if is_context(code):
            return -1
        if self.unk_id is None:
            raise UserError(f"{code!r} is not in the model's vocabulary, and this model has no [UNK]")
        return self.unk_id


@dataclass(frozen=True)
class Encoded:
    """`N` histories of `L` tokens in all, as a model reads them.

    Attributes:
        vocabulary: What the model can read.
        token_ids: int64 `[L]`.
        visit_ids: 0 for `[CLS]`, else counted from 1 in what is left of the history: int64 `[L]`.
        code_places: Of each token its place in `Histories.codes`, -1 for `[CLS]`: int64 `[L]`.
        offsets: Where each history's tokens begin, and the end: int64 `[N + 1]`.
        skipped_visits: Visits before those that are read: int64 `[N]`.
    """

    vocabulary: ModelVocabulary
    token_ids: np.ndarray
    visit_ids: np.ndarray
    code_places: np.ndarray
    offsets: np.ndarray
    skipped_visits: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each history: int64 `[N]`."""
        return np.diff(self.offsets)

    def take(self, rows: np.ndarray) -> "Encoded":
        """Some histories, in the order of `rows`: int64 `[M]`, or bool `[N]`."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        lengths = self.lengths[rows]
        tokens = spans(self.offsets[rows], lengths)
        return Encoded(
            vocabulary=self.vocabulary,
            token_ids=self.token_ids[tokens],
            visit_ids=self.visit_ids[tokens],
            code_places=self.code_places[tokens],
            offsets=offsets_of(lengths),
            skipped_visits=self.skipped_visits[rows],
        )


def encode(histories: Histories, vocabulary: ModelVocabulary, max_length: int | None = None) -> Encoded:
    """Reads histories by a model's vocabulary.

    A longer history keeps its latest whole visits, or else the latest codes of the last one; visits are
    counted from 1 again, and those past the model's table share its last row.

    Args:
        histories: `N` of them.
        vocabulary: The model's.
        max_length: The most tokens of a history, `[CLS]` included; the model's own limit if None.

    Raises:
        UserError: a code is unknown, and the model has no `[UNK]`; or the model reads shorter ones only.
    """
    limit = vocabulary.max_length if max_length is None else max_length
    prefix = int(vocabulary.cls_id is not None)
    if not prefix < limit <= vocabulary.max_length:
        raise UserError(
            f"histories of {limit} tokens: this model reads {prefix + 1} to {vocabulary.max_length}"
        )
    read_as = vocabulary.read_as(histories.vocabulary)[histories.codes]  # [C]
    places = np.flatnonzero(read_as >= 0)
    example, visits = histories.example[places], histories.visit_ids[places].astype(np.int64)
    kept = _latest(example, visits, len(histories), limit - prefix)
    places, example, visits = places[kept], example[kept], visits[kept]
    counts = np.bincount(example, minlength=len(histories))  # [N]
    offsets = offsets_of(counts + prefix)
    target = spans(offsets[:-1] + prefix, counts)
    token_ids = np.full(offsets[-1], vocabulary.cls_id or 0, np.int64)
    visit_ids = np.zeros(offsets[-1], np.int64)
    code_places = np.full(offsets[-1], -1, np.int64)
    token_ids[target] = read_as[places]
    visit_ids[target] = np.minimum(_counted_from_1(example, visits, counts), vocabulary.type_vocab_size - 1)
    code_places[target] = places
    skipped = np.zeros(len(histories), np.int64)
    skipped[counts > 0] = visits[starts_of(counts)[counts > 0]] - 1
    return Encoded(vocabulary, token_ids, visit_ids, code_places, offsets, skipped)


def _first_of_visit(example: np.ndarray, visits: np.ndarray) -> np.ndarray:
    """Whether each code is the first of its visit: bool `[C]`."""
    first = np.ones(len(visits), bool)
    first[1:] = (example[1:] != example[:-1]) | (visits[1:] != visits[:-1])
    return first


def _latest(example: np.ndarray, visits: np.ndarray, examples: int, room: int) -> np.ndarray:
    """Whether each code is in its example's last visits that have at most `room` codes together: bool `[C]`.

    Where the last visit alone has more, its last `room` codes are.
    """
    here = np.arange(len(visits))
    end = np.cumsum(np.bincount(example, minlength=examples))[example]  # [C]
    start_of_visit = np.maximum.accumulate(np.where(_first_of_visit(example, visits), here, 0))
    fits = end - start_of_visit <= room
    some_fit = np.bincount(example, weights=fits, minlength=examples)[example] > 0
    return fits | (~some_fit & (end - here <= room))


def _counted_from_1(example: np.ndarray, visits: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The number of each code's visit among its example's: int64 `[C]`."""
    number = np.cumsum(_first_of_visit(example, visits))
    if len(number) == 0:
        return number
    return number - np.repeat(number[starts_of(counts)[counts > 0]], counts[counts > 0]) + 1
