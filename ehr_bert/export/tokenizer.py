"""Creation of a model's tokenizer. Importing this module registers the tokenizer with `AutoTokenizer`."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedConfig

from ehr_bert.errors import UserError
from ehr_bert.export.history_tokenizer import TOKEN_IDS_FILE, VISIT_BORDER, HistoryTokenizer
from ehr_bert.model.config import ModelConfig
from ehr_bert.schemas import SpecialToken
from ehr_bert.vocabulary import Vocabulary


class HistoryConfig(PreTrainedConfig):
    """Key under which the tokenizer is registered. No model uses it, so stock BERT keeps its tokenizer."""

    model_type = "ehr_bert_history"


AutoTokenizer.register(HistoryConfig, HistoryTokenizer, exist_ok=True)


def write_tokenizer(
    folder: Path, config: ModelConfig, tokens: Sequence[str], mask_token: str, cls_token: str | None
) -> HistoryTokenizer:
    """Write the tokenizer that produces the inputs on which a model was trained.

    Args:
        folder: The folder to write to.
        config: The model's shape.
        tokens: The model's tokens, in the order of their ids.
        mask_token: The token that replaced masked codes.
        cls_token: The token before each patient, None if there was none.
    """
    vocabulary_file = folder / TOKEN_IDS_FILE
    ids = {token: index for index, token in enumerate(tokens)}
    vocabulary_file.write_text(json.dumps(ids), encoding="utf-8")
    tokenizer = HistoryTokenizer(
        str(vocabulary_file),
        type_vocab_size=config.type_vocab_size,
        model_max_length=config.max_position_embeddings,
        pad_token=tokens[config.pad_token_id],
        unk_token=SpecialToken.UNK.value if SpecialToken.UNK in ids else None,
        mask_token=mask_token,
        cls_token=cls_token,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def row_tokens(config: ModelConfig, vocabulary: Vocabulary) -> list[str]:
    """Return one token for each row of the model's embedding table.

    Special tokens of the vocabulary that have no row were never trained and are omitted. Rows that have no
    token are called `[unused<id>]`.

    Raises:
        UserError: The model has no row for a code of the vocabulary (key `vocabulary-too-large`).
    """
    size = config.vocab_size or 0
    for token in vocabulary.tokens[size:]:
        if token not in set(SpecialToken):
            raise UserError(
                "vocabulary-too-large",
                f"the model has {size} tokens, but the vocabulary has {len(vocabulary)}, such as {token!r}. "
                "Name the vocabulary of the training run.",
            )
    unused = [f"[unused{index}]" for index in range(len(vocabulary), size)]
    return [*vocabulary.tokens[:size], *unused]


def unwritable_tokens(tokens: Iterable[str]) -> list[str]:
    """Return the tokens that the text of a history cannot contain, because a separator is part of them."""
    return [token for token in tokens if VISIT_BORDER in token or token.split() != [token]]
