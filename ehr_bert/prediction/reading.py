"""Encoding of histories for a model: token ids and visit ids in flat arrays.

The result equals that of the export folder's `HistoryTokenizer` on the text of the histories, but each
distinct code is looked up only once.
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
"""Maximum number of tokens of a history for a model from scratch."""

MAX_VISITS = 1000
"""Number of distinct visit ids of a model from scratch, more than a history of `MAX_LENGTH` has."""


@dataclass(frozen=True)
class ModelVocabulary:
    """The vocabulary and the limits of a model.

    Attributes:
        ids: Id of each token.
        pad_id: Id of padding.
        unk_id: Id of unknown codes; None if the model has no `[UNK]`.
        cls_id: Id of the token before each history; None if the model has no `[CLS]`.
        type_vocab_size: Number of distinct visit ids, including 0.
        max_length: Maximum number of tokens of a history.
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
        """Read the vocabulary of an export folder or of a saved predictor.

        Raises:
            UserError: The folder has no tokenizer of histories (key `not-an-export`).
        """
        # Without this check, transformers would look for the name on the network.
        if not (folder / "vocab.json").is_file():
            raise UserError(
                "not-an-export",
                f"{folder} has no vocab.json. Choose a folder that `ehr-bert convert` wrote.",
            )
        try:
            tokenizer = HistoryTokenizer.from_pretrained(folder)
        except (OSError, TypeError, ValueError) as error:
            raise UserError(
                "not-an-export",
                f"the tokenizer in {folder} cannot be read: {' '.join(str(error).split())}. "
                "Choose a folder that `ehr-bert convert` wrote.",
            ) from error
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
        """Return the vocabulary of a model from scratch: the codes of its training histories.

        Other codes are encoded as padding, whose vector is zero.
        """
        tokens = [SpecialToken.PAD.value, *histories.vocabulary[np.unique(histories.codes)]]
        ids = {token: index for index, token in enumerate(tokens)}
        return cls(ids, pad_id=0, unk_id=0, cls_id=None, type_vocab_size=MAX_VISITS, max_length=MAX_LENGTH)

    def read_as(self, codes: np.ndarray) -> np.ndarray:
        """Return the id of each code: its own, else that of the nearest known heading, else that of `[UNK]`.

        Context tokens that the model was not trained with have no id.

        Args:
            codes: Distinct codes: object `[U]`.

        Returns:
            int64 `[U]`, -1 for context tokens without an id.

        Raises:
            UserError: A code is unknown and the model has no `[UNK]` (key `unknown-code`).
        """
        return np.fromiter(map(self._read_as, codes), dtype=np.int64, count=len(codes))

    def _read_as(self, code: str) -> int:
        for token in (code, *headings(code)):
            if token in self.ids:
                return self.ids[token]
        if is_context(code):
            return -1
        if self.unk_id is None:
            raise UserError(
                "unknown-code",
                f"{code!r} is not in the model's vocabulary, and the model has no [UNK]. Use another model.",
            )
        return self.unk_id


@dataclass(frozen=True)
class Encoded:
    """`N` histories, encoded for a model.

    Attributes:
        vocabulary: The vocabulary and the limits of the model.
        token_ids: Id of each token: int64, all histories one after the other.
        visit_ids: Visit of each token, 0 for `[CLS]`. The visits that are kept are counted from 1: int64.
        code_places: Position of each token in `Histories.codes`, -1 for `[CLS]`: int64.
        offsets: First token of each history, and the end: int64 `[N + 1]`.
        skipped_visits: Number of earlier visits of each history that are left out: int64 `[N]`.
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
        """Number of tokens of each history: int64 `[N]`."""
        return np.diff(self.offsets)

    def take(self, rows: np.ndarray) -> "Encoded":
        """Return some histories, in the order of `rows`: int64, or bool `[N]`."""
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
    """Encode histories for a model.

    A history that is too long keeps its latest complete visits. If even the last visit is too long, it keeps
    the last codes of that visit. Visits are counted from 1 among those that are kept. Visits beyond the
    model's table share its last row.

    Args:
        histories: `N` histories.
        vocabulary: The vocabulary and the limits of the model.
        max_length: Maximum number of tokens of a history, including `[CLS]`; the limit of the model if None.

    Raises:
        UserError: A code is unknown and the model has no `[UNK]` (key `unknown-code`), or `max_length`
            exceeds the limit of the model (`length-out-of-range`).
    """
    limit = vocabulary.max_length if max_length is None else max_length
    prefix = int(vocabulary.cls_id is not None)
    if not prefix < limit <= vocabulary.max_length:
        raise UserError(
            "length-out-of-range",
            f"the maximum length {limit} is out of range. The model accepts {prefix + 1} to "
            f"{vocabulary.max_length} tokens.",
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
    """Return whether each code is the first of its visit: bool `[C]`."""
    first = np.ones(len(visits), bool)
    first[1:] = (example[1:] != example[:-1]) | (visits[1:] != visits[:-1])
    return first


def _latest(example: np.ndarray, visits: np.ndarray, examples: int, max_codes: int) -> np.ndarray:
    """Return whether each code is kept: bool `[C]`.

    The last visits of each example with at most `max_codes` codes together are kept. If the last visit alone
    has more, its last `max_codes` codes are kept.
    """
    position = np.arange(len(visits))
    end = np.cumsum(np.bincount(example, minlength=examples))[example]  # [C]
    start_of_visit = np.maximum.accumulate(np.where(_first_of_visit(example, visits), position, 0))
    fits = end - start_of_visit <= max_codes
    any_fits = np.bincount(example, weights=fits, minlength=examples)[example] > 0
    return fits | (~any_fits & (end - position <= max_codes))


def _counted_from_1(example: np.ndarray, visits: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Number the visits of each example from 1, and return the number of each code's visit: int64 `[C]`."""
    number = np.cumsum(_first_of_visit(example, visits))
    if len(number) == 0:
        return number
    return number - np.repeat(number[starts_of(counts)[counts > 0]], counts[counts > 0]) + 1
