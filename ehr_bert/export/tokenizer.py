"""Makes the tokenizer of a model; importing this module makes `AutoTokenizer` know it by name."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedConfig

from ehr_bert.errors import UserError
from ehr_bert.export.history_tokenizer import VISIT_BORDER, VOCABULARY_FILE, HistoryTokenizer
from ehr_bert.model.config import ModelConfig
from ehr_bert.schemas import SpecialToken
from ehr_bert.vocabulary import Vocabulary


class HistoryConfig(PreTrainedConfig):
    """Names no model: the tokenizer is registered under it, so that stock BERT keeps its own."""

    model_type = "ehr_bert_history"


AutoTokenizer.register(HistoryConfig, HistoryTokenizer, exist_ok=True)


def write_tokenizer(
    folder: Path, config: ModelConfig, tokens: Sequence[str], mask_token: str, cls_token: str | None
) -> HistoryTokenizer:
    """Writes the tokenizer that gives a model what it was trained on.

    Args:
        folder: Where to.
        config: The model's shape.
        tokens: Its tokens, by id.
        mask_token: The one that stood for masked codes.
        cls_token: The one that stood before each patient, if one did.
    """
    vocabulary_file = folder / VOCABULARY_FILE
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
    """A token for each row of the model's table.

    Special tokens that the vocabulary has past the last row were never trained and are left out.

    Raises:
        UserError: the vocabulary has codes that the model has no row for.
    """
    size = config.vocab_size or 0
    for token in vocabulary.tokens[size:]:
        if token not in set(SpecialToken):
            raise UserError(
                f"the model has {size} tokens, the vocabulary {len(vocabulary)}, such as {token!r}: "
                "name the vocabulary that the model was trained with"
            )
    unused = [f"[unused{index}]" for index in range(len(vocabulary), size)]
    return [*vocabulary.tokens[:size], *unused]


def unwritable(tokens: Iterable[str]) -> list[str]:
    """The tokens that a history's text can't hold, since codes and visits stand apart by a part of them."""
    return [token for token in tokens if VISIT_BORDER in token or token.split() != [token]]
