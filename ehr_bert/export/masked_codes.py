"""Predictions of an exported model at a masked code, and how the model reads a history."""

from pathlib import Path

import torch
from transformers import BertForPreTraining

from ehr_bert.errors import UserError
from ehr_bert.export.history_tokenizer import HistoryTokenizer
from ehr_bert.files import read_json
from ehr_bert.quiet import quiet_transformers


def replaced_codes(folder: Path, history: str) -> dict[str, str]:
    """Return the codes of a history that the model does not know, with the token each is read as.

    Args:
        folder: An export folder.
        history: Text such as `ICD10_E11.9 ICD10_I10 | [MASK]`.

    Raises:
        UserError: The folder is not an export folder (key `not-an-export`).
    """
    tokenizer = _tokenizer(folder)
    codes = tokenizer.tokenize(history)
    tokens = tokenizer.convert_ids_to_tokens(tokenizer.convert_tokens_to_ids(codes))
    return {code: token for code, token in zip(codes, tokens, strict=True) if code != token}


def top_predictions(folder: Path, history: str, k: int) -> list[tuple[str, float]]:
    """Return the most probable codes at the masked position of a history.

    Args:
        folder: An export folder.
        history: Text such as `ICD10_E11.9 ICD10_I10 | [MASK]`, with the mask token once.
        k: Number of codes.

    Returns:
        Codes and their probabilities, the most probable first.

    Raises:
        UserError: The folder is not an export folder (key `not-an-export`), or the history does not contain
            the mask token exactly once (`not-one-mask`).
    """
    tokenizer = _tokenizer(folder)
    inputs = tokenizer(history, truncation=True, return_tensors="pt")
    masked = (inputs["input_ids"][0] == tokenizer.mask_token_id).nonzero()[:, 0]
    if len(masked) != 1:
        raise UserError(
            "not-one-mask",
            f"the history contains {tokenizer.mask_token} {len(masked)} times. Write it exactly once.",
        )
    with quiet_transformers():
        model = BertForPreTraining.from_pretrained(folder).eval()
    with torch.no_grad():
        logits = model(**inputs).prediction_logits[0, masked[0]]  # [V]
    best = logits.softmax(dim=0).topk(k)
    tokens = tokenizer.convert_ids_to_tokens(best.indices.tolist())
    return list(zip(tokens, best.values.tolist(), strict=True))


def _tokenizer(folder: Path) -> HistoryTokenizer:
    config = folder / "tokenizer_config.json"
    if not config.exists() or "type_vocab_size" not in read_json(config):
        raise UserError(
            "not-an-export",
            f"{folder} is not an export folder. Export the training folder with `ehr-bert convert` first.",
        )
    return HistoryTokenizer.from_pretrained(folder)
