"""The tokenizer of patient histories: codes are separated by spaces, visits by `|`.

    ICD10_E11.9 ICD10_I10 | ICD10_N18.3 [MASK]

This file needs only `transformers`. Every exported model contains a copy, which
`AutoTokenizer.from_pretrained(folder, trust_remote_code=True)` runs.
"""

import json
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

from transformers import BatchEncoding, PreTrainedTokenizer
from transformers.tokenization_utils_base import PaddingStrategy, TruncationStrategy

VISIT_BORDER = "|"
TOKEN_IDS_FILE = "vocab.json"

GUARD_FILE = "tokenizer.json"
GUARD = {
    "version": "none: visit ids are made by history_tokenizer.py, so load with trust_remote_code=True",
    "added_tokens": [],
}
"""Stock tokenizers cannot number visits and would assign visit 0 to each code. They read this file first, and
stop with an error that contains this text, because it is not a version of their format."""


class HistoryTokenizer(PreTrainedTokenizer):
    """Convert histories to `input_ids`, `token_type_ids` (visit ids) and `attention_mask`.

    A code that is not in the vocabulary is read as the nearest heading above it that is, such as `ICD10_E11`
    for `ICD10_E11.6`, else as `[UNK]`. If the model was trained with `[CLS]`, this token comes first, in
    visit 0. Visits are numbered from 1, and visits beyond the model's embedding table share its last row.
    Truncation keeps the latest complete visits, or else the latest codes of the last visit, and numbers the
    visits from 1 again.

    Args:
        vocab_file: JSON file with an object of token to id.
        type_vocab_size: Number of visit ids of the model.
        kwargs: As in `PreTrainedTokenizer`. Without a `cls_token` no token is added.
    """

    vocab_files_names = {"vocab_file": TOKEN_IDS_FILE}  # noqa: RUF012
    model_input_names = ["input_ids", "token_type_ids", "attention_mask"]  # noqa: RUF012
    truncation_side = "left"

    def __init__(self, vocab_file: str, type_vocab_size: int, **kwargs: Any):
        self._ids: dict[str, int] = json.loads(Path(vocab_file).read_text(encoding="utf-8"))
        self._tokens = {index: token for token, index in self._ids.items()}
        self.type_vocab_size = type_vocab_size
        super().__init__(type_vocab_size=type_vocab_size, special_tokens_pattern="prefix_suffix", **kwargs)

    @property
    def vocab_size(self) -> int:
        """Number of tokens in the vocabulary."""
        return len(self._ids)

    @property
    def prefix_tokens(self) -> list[int]:
        """The ids before a history."""
        return [] if self.cls_token_id is None else [self.cls_token_id]

    def get_vocab(self) -> dict[str, int]:
        """Return the id of each token."""
        return self._ids | self.added_tokens_encoder

    def tokenize(self, text: str, **_: Any) -> list[str]:
        """Split a history into codes, without its visits."""
        return text.replace(VISIT_BORDER, " ").split()

    def _convert_token_to_id(self, token: str) -> int:
        for known in (token, *headings(token)):
            if known in self._ids:
                return self._ids[known]
        if self.unk_token is None:
            raise ValueError(f"{token!r} is not in the vocabulary, and this model has no [UNK].")
        return self._ids[self.unk_token]

    def _convert_id_to_token(self, index: int) -> str:
        return self._tokens[index]

    def _encode_plus(
        self,
        text: str | list[str],
        text_pair: Any = None,
        add_special_tokens: bool = True,
        padding_strategy: PaddingStrategy = PaddingStrategy.DO_NOT_PAD,
        truncation_strategy: TruncationStrategy = TruncationStrategy.DO_NOT_TRUNCATE,
        max_length: int | None = None,
        is_split_into_words: bool = False,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_tensors: Any = None,
        return_token_type_ids: bool | None = None,
        return_attention_mask: bool | None = None,
        return_overflowing_tokens: bool = False,
        return_special_tokens_mask: bool = False,
        return_length: bool = False,
        verbose: bool = True,
        **_: Any,
    ) -> BatchEncoding:
        histories = [text] if isinstance(text, str) else text
        if (
            text_pair is not None
            or is_split_into_words
            or return_overflowing_tokens
            or self.truncation_side != "left"
            or not all(isinstance(history, str) for history in histories)
        ):
            raise ValueError(
                "a history must be one text, such as 'A B | C', truncated on the left. Pairs, lists of words "
                "and overflowing tokens are not supported."
            )
        prefix = self.prefix_tokens if add_special_tokens else []
        capacity = None
        if truncation_strategy != TruncationStrategy.DO_NOT_TRUNCATE and max_length is not None:
            capacity = max(max_length - len(prefix), 0)
        columns: dict[str, list[Any]] = {name: [] for name in ("input_ids", "token_type_ids")}
        for history in histories:
            ids, visit_ids = self._ids_and_visit_ids(history, capacity)
            columns["input_ids"].append(prefix + ids)
            columns["token_type_ids"].append([0] * len(prefix) + visit_ids)
            self._eventual_warn_about_too_long_sequence(prefix + ids, max_length, verbose)
        lengths = [len(ids) for ids in columns["input_ids"]]
        if return_token_type_ids is False:
            del columns["token_type_ids"]
        if return_special_tokens_mask:
            ones = [1] * len(prefix)
            columns["special_tokens_mask"] = [ones + [0] * (length - len(ones)) for length in lengths]
        if return_length:
            columns["length"] = lengths
        single = isinstance(text, str) and return_tensors is None
        padded = self.pad(
            {name: values[0] for name, values in columns.items()} if single else columns,
            padding=padding_strategy.value,
            max_length=max_length,
            pad_to_multiple_of=pad_to_multiple_of,
            padding_side=padding_side,
            return_attention_mask=return_attention_mask,
        )
        return BatchEncoding(padded, tensor_type=return_tensors)

    def _ids_and_visit_ids(self, history: str, capacity: int | None) -> tuple[list[int], list[int]]:
        """Return the ids of a history's codes and their visits, at most `capacity` codes."""
        visits = [codes for codes in map(str.split, history.split(VISIT_BORDER)) if codes]
        if capacity is not None:
            visits = _latest(visits, capacity)
        ids = self.convert_tokens_to_ids([code for codes in visits for code in codes])
        last = self.type_vocab_size - 1
        return ids, [min(number, last) for number, codes in enumerate(visits, 1) for _ in codes]

    def prepare_for_model(self, *_: Any, **__: Any) -> BatchEncoding:
        """Refuse ids, because they do not contain the visits.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(
            "ids do not contain visits. Call the tokenizer with the text of the history."
        )

    def create_token_type_ids_from_sequences(self, *_: Any, **__: Any) -> list[int]:
        """Refuse ids, as `prepare_for_model` does."""
        return self.prepare_for_model()

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write the vocabulary and the guard against stock tokenizers, and return both paths."""
        prefix = f"{filename_prefix}-" if filename_prefix else ""
        vocabulary = Path(save_directory, prefix + TOKEN_IDS_FILE)
        vocabulary.write_text(json.dumps(self._ids, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
        guard = Path(save_directory, prefix + GUARD_FILE)
        guard.write_text(json.dumps(GUARD) + "\n", encoding="utf-8")
        return str(vocabulary), str(guard)


def headings(code: str) -> Iterator[str]:
    """Yield the headings above an ICD code, from the nearest to the category (the part before the dot)."""
    category = code.partition(".")[0]
    while code.startswith(("ICD9_", "ICD10_")) and code != category:
        code = code[:-1].removesuffix(".")
        yield code


def _latest(visits: list[list[str]], capacity: int) -> list[list[str]]:
    """Return the last visits with at most `capacity` codes in total, or else the end of the last visit."""
    lengths = accumulate(len(codes) for codes in reversed(visits))
    kept = sum(length <= capacity for length in lengths)
    if kept or not visits:
        return visits[len(visits) - kept :]
    return [visits[-1][len(visits[-1]) - capacity :]]


HistoryTokenizer.register_for_auto_class()
