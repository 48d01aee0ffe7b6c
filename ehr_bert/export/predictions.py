"""What an exported model puts where a code is hidden, and how it reads a history."""

from pathlib import Path

import torch
from transformers import BertForPreTraining

from ehr_bert.errors import UserError
from ehr_bert.export.history_tokenizer import HistoryTokenizer
from ehr_bert.files import read_json


def read_otherwise(folder: Path, history: str) -> dict[str, str]:
    """The codes of a history that a model doesn't know, each with the token that it is read as.

    Args:
        folder: An export folder.
        history: Text such as `ICD10_E11.9 ICD10_I10 | [MASK]`.

    Raises:
        UserError: the folder is no export.
    """
    tokenizer = _tokenizer(folder)
    codes = tokenizer.tokenize(history)
    tokens = tokenizer.convert_ids_to_tokens(tokenizer.convert_tokens_to_ids(codes))
    return {code: token for code, token in zip(codes, tokens, strict=True) if code != token}


def top_predictions(folder: Path, history: str, k: int) -> list[tuple[str, float]]:
    """The likeliest codes at the masked place of a history.

    Args:
        folder: An export folder.
        history: Text such as `ICD10_E11.9 ICD10_I10 | [MASK]`, with the mask token once.
        k: How many.

    Returns:
        Codes and their probabilities, the likeliest first.

    Raises:
        UserError: the folder is no export, or the mask token isn't there exactly once.
    """
    tokenizer = _tokenizer(folder)
    inputs = tokenizer(history, truncation=True, return_tensors="pt")
    masked = (inputs["input_ids"][0] == tokenizer.mask_token_id).nonzero()[:, 0]
    if len(masked) != 1:
        raise UserError(f"a history to complete has {tokenizer.mask_token} once, not {len(masked)} times")
    model = BertForPreTraining.from_pretrained(folder).eval()
    with torch.no_grad():
        logits = model(**inputs).prediction_logits[0, masked[0]]  # [V]
    likeliest = logits.softmax(dim=0).topk(k)
    tokens = tokenizer.convert_ids_to_tokens(likeliest.indices.tolist())
    return list(zip(tokens, likeliest.values.tolist(), strict=True))


def _tokenizer(folder: Path) -> HistoryTokenizer:
    config = folder / "tokenizer_config.json"
    if not config.exists() or "type_vocab_size" not in read_json(config):
        raise UserError(f"{folder} is no export folder: make one of a training (`ehr-bert convert`)")
    return HistoryTokenizer.from_pretrained(folder)
