"""A predictor, which is an encoder and a head, and the folder in which it is saved.

config.json, model.safetensors    the encoder, a stock `BertModel`
vocab.json, tokenizer_config.json, tokenizer.json, history_tokenizer.py    its tokenizer
head.safetensors                  weights of the head
predictor.json                    name and outputs of the head, calibration, and maximum length of histories
summary.json                      facts about the training
"""

import dataclasses
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ehr_bert.errors import UserError
from ehr_bert.files import SUMMARY_FILE, atomic_folder, read_json, write_json
from ehr_bert.metrics.calibration import Calibration
from ehr_bert.prediction.batches import PaddedBatch
from ehr_bert.prediction.encoders import Attention, BertEncoder, HistoryEncoder, bert_encoder
from ehr_bert.prediction.frozen import FrozenBatch
from ehr_bert.prediction.heads import HEADS
from ehr_bert.prediction.heads.head import Head
from ehr_bert.prediction.reading import ModelVocabulary
from ehr_bert.quiet import quiet_transformers

HEAD_FILE, PREDICTOR_FILE = "head.safetensors", "predictor.json"
TOKENIZER_FILES = ("vocab.json", "tokenizer_config.json", "tokenizer.json", "history_tokenizer.py")
ANCESTRY_FILE = "ancestry.json"
"""Copied if the export folder has it."""

MODEL_FOLDER = "model"
"""Name of the predictor's folder in the output of `ehr-bert finetune`."""

HISTORY_FACTS = ("roll_up", "tokens")
"""Facts of a cohort that describe how its histories were made. A predictor records them under `cohort`."""


class Predictor(nn.Module):
    """An encoder with a prediction head.

    Args:
        encoder: Computes a vector for each token.
        head: Computes logits from these vectors.
    """

    def __init__(self, encoder: HistoryEncoder, head: Head) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.encoder.token_embedding.weight.device

    def forward(self, batch: PaddedBatch | FrozenBatch) -> torch.Tensor:
        """Return the logits `[B, O]`, in float32 even if the encoder uses a lower precision."""
        if isinstance(batch, FrozenBatch):
            with torch.autocast(self.device.type, enabled=False):
                return self.head.predict(batch.values, batch.visits)
        hidden = self.encoder(batch)  # [B, T, H]
        with torch.autocast(hidden.device.type, enabled=False):
            return self.head(hidden.float(), batch)


def make_head(name: str, hidden_size: int, outputs: int = 1, seed: int = 0) -> Head:
    """Create a head with random weights.

    Args:
        name: Name in `HEADS`.
        hidden_size: H, the size of a token vector.
        outputs: O, the number of logits.
        seed: Seed of the weights.

    Raises:
        UserError: The name is unknown (key `unknown-head`).
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = HEADS[name](hidden_size, outputs).eval()
    head.name = name
    return head


def make_predictor(encoder: HistoryEncoder, head: str, outputs: int = 1, seed: int = 0) -> Predictor:
    """Create a predictor with a new head on an encoder. The arguments are those of `make_head`.

    Raises:
        UserError: The head is unknown (key `unknown-head`).
    """
    return Predictor(encoder, make_head(head, encoder.hidden_size, outputs, seed)).eval()


@dataclass(frozen=True)
class SavedPredictor:
    """The contents of a predictor's folder.

    Attributes:
        predictor: The predictor, with its dropout off.
        vocabulary: Its vocabulary, with the maximum length of its fine-tuning.
        calibration: Calibration of its logits, if it has one.
        facts: Facts about its training.
    """

    predictor: Predictor
    vocabulary: ModelVocabulary
    calibration: Calibration | None
    facts: dict[str, Any]


def save_predictor(
    folder: Path,
    predictor: Predictor,
    source: Path,
    calibration: Calibration | None,
    facts: Mapping[str, Any],
    max_length: int | None = None,
) -> None:
    """Save a predictor with a `BertEncoder` as a folder, atomically.

    Args:
        folder: The folder. An earlier output of `finetune` there is replaced.
        predictor: The predictor.
        source: The export folder with its tokenizer.
        calibration: Calibration of its logits.
        facts: Facts about its training, without patient ids.
        max_length: Maximum number of tokens of a history in its fine-tuning; the limit of the model if None.

    Raises:
        UserError: `folder` exists and was not written by `finetune` (key `output-not-empty`).
    """
    encoder, head = predictor.encoder, predictor.head
    with atomic_folder(folder, "finetune") as temporary:
        save_encoder(temporary, encoder, source)
        weights = {name: weight.detach().cpu().contiguous() for name, weight in head.state_dict().items()}
        save_file(weights, temporary / HEAD_FILE)
        write_json(
            temporary / PREDICTOR_FILE,
            {
                "head": head.name,
                "outputs": head.outputs,
                "max_length": max_length,
                "calibration": calibration.to_dict() if calibration else None,
            },
        )
        write_json(temporary / SUMMARY_FILE, facts)


def save_encoder(folder: Path, encoder: HistoryEncoder, source: Path) -> None:
    """Save an encoder and its tokenizer, so that the folder can be fine-tuned like an export folder.

    Args:
        folder: The folder.
        encoder: A `BertEncoder`.
        source: The export folder with its tokenizer.
    """
    assert isinstance(encoder, BertEncoder)
    with quiet_transformers():
        encoder.bert.save_pretrained(folder)
    for name in (*TOKENIZER_FILES, ANCESTRY_FILE):
        if (source / name).exists():
            shutil.copyfile(source / name, folder / name)


def load_predictor(folder: Path, attention: Attention = "sdpa") -> SavedPredictor:
    """Load a predictor that `save_predictor` wrote.

    Args:
        folder: Its folder, or the output folder of `ehr-bert finetune`.
        attention: Implementation of the attention.

    Raises:
        UserError: The folder has no predictor (key `not-a-predictor`), a file is incomplete (`missing-key`),
            the head is unknown (`unknown-head`), or the files do not match or are damaged
            (`predictor-mismatch`).
    """
    if (folder / MODEL_FOLDER / PREDICTOR_FILE).exists():
        folder = folder / MODEL_FOLDER
    if not (folder / PREDICTOR_FILE).exists():
        raise UserError(
            "not-a-predictor",
            f"{folder} has no {PREDICTOR_FILE}. Choose a folder that `ehr-bert finetune` wrote.",
        )
    saved = read_json(folder / PREDICTOR_FILE)
    encoder = bert_encoder(folder, attention)
    try:
        predictor = make_predictor(encoder, saved["head"], saved["outputs"])
        predictor.head.load_state_dict(load_file(folder / HEAD_FILE))
        calibration = Calibration.from_dict(saved["calibration"]) if saved["calibration"] else None
        max_length = saved["max_length"]
    except UserError as error:
        raise error.prefixed(f"{folder / PREDICTOR_FILE}: ") from error
    except KeyError as error:
        raise UserError(
            "missing-key",
            f"{folder / PREDICTOR_FILE} has no {error.args[0]}. "
            "Choose a folder that `ehr-bert finetune` wrote.",
        ) from error
    except (RuntimeError, TypeError, OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            "predictor-mismatch",
            f"{folder / HEAD_FILE} does not match {PREDICTOR_FILE} or is damaged: {reason}. "
            "Run `ehr-bert finetune` again.",
        ) from error
    vocabulary = ModelVocabulary.of_folder(folder)
    if max_length is not None:
        vocabulary = dataclasses.replace(vocabulary, max_length=max_length)
    return SavedPredictor(predictor, vocabulary, calibration, read_json(folder / SUMMARY_FILE))
