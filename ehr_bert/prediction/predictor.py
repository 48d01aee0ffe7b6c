"""A predictor: an encoder and a head; and the folder that it is saved as.

config.json, model.safetensors    the encoder, a stock `BertModel`
vocab.json, tokenizer_config.json, tokenizer.json, history_tokenizer.py    its tokenizer
head.safetensors                  the head's weights
predictor.json                    the head's name, outputs and calibration, and how long histories are read
summary.json                      facts of its training
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
from ehr_bert.prediction.encoders import Attention, BertEncoder, HistoryEncoder, bert_encoder, quietly
from ehr_bert.prediction.frozen import FrozenBatch
from ehr_bert.prediction.heads import HEADS
from ehr_bert.prediction.heads.head import Head
from ehr_bert.prediction.reading import ModelVocabulary

HEAD_FILE, PREDICTOR_FILE = "head.safetensors", "predictor.json"
TOKENIZER_FILES = ("vocab.json", "tokenizer_config.json", "tokenizer.json", "history_tokenizer.py")
ANCESTRY_FILE = "ancestry.json"
"""Copied too where the export has one."""

MODEL_FOLDER = "model"
"""The predictor's folder inside what a fine-tuning writes."""

MADE_BY = ("roll_up", "tokens")
"""What a cohort's facts tell of how its histories were made; a predictor's facts keep it as `cohort`."""


class Predictor(nn.Module):
    """An encoder and a head.

    Args:
        encoder: Gives each token a vector.
        head: Makes logits of them.
    """

    def __init__(self, encoder: HistoryEncoder, head: Head) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.encoder.token_embedding.weight.device

    def forward(self, batch: PaddedBatch | FrozenBatch) -> torch.Tensor:
        """The logits `[B, outputs]`, in float32 whatever the encoder computes in."""
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
    """What a predictor's folder holds.

    Attributes:
        predictor: Ready to predict, its dropout off.
        vocabulary: What it reads; `max_length` is what it was fine-tuned with.
        calibration: From logits to risks, if it is known.
        facts: Facts of its training.
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
    """Writes a predictor on BERT as a folder, which is whole or absent.

    Args:
        folder: Where to; an earlier one is replaced.
        predictor: Its encoder is a `BertEncoder`.
        source: The export folder whose tokenizer it reads by.
        calibration: From logits to risks.
        facts: What is told of its training; no patient's id.
        max_length: The most tokens that it was fine-tuned on; the model's limit if None.

    Raises:
        UserError: `folder` is something else.
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
    """Writes an encoder without heads, which reads and fine-tunes as an export folder does.

    Args:
        folder: Where to.
        encoder: A `BertEncoder`.
        source: The export folder whose tokenizer it reads by.
    """
    assert isinstance(encoder, BertEncoder)
    with quietly():
        encoder.bert.save_pretrained(folder)
    for name in (*TOKENIZER_FILES, ANCESTRY_FILE):
        if (source / name).exists():
            shutil.copyfile(source / name, folder / name)


def load_predictor(folder: Path, attention: Attention = "sdpa") -> SavedPredictor:
    """Reads what `save_predictor` wrote.

    Args:
        folder: The folder, or the one that `ehr-bert finetune` wrote around it.
        attention: How attention is computed.

    Raises:
        UserError: the folder holds something else, or its files don't belong together.
    """
    if (folder / MODEL_FOLDER / PREDICTOR_FILE).exists():
        folder = folder / MODEL_FOLDER
    if not (folder / PREDICTOR_FILE).exists():
        raise UserError(f"{folder} holds no {PREDICTOR_FILE}: name a model that was fine-tuned")
    saved = read_json(folder / PREDICTOR_FILE)
    encoder = bert_encoder(folder, attention)
    try:
        predictor = make_predictor(encoder, saved["head"], saved["outputs"])
        predictor.head.load_state_dict(load_file(folder / HEAD_FILE))
        calibration = Calibration.from_dict(saved["calibration"]) if saved["calibration"] else None
        max_length = saved["max_length"]
    except KeyError as error:
        raise UserError(f"{folder / PREDICTOR_FILE} lacks the key {error}: name another model") from error
    except (RuntimeError, TypeError, OSError, SafetensorError) as error:
        why = " ".join(str(error).split())
        raise UserError(f"{folder / HEAD_FILE} doesn't fit {PREDICTOR_FILE}, or is damaged: {why}") from error
    vocabulary = ModelVocabulary.of_folder(folder)
    if max_length is not None:
        vocabulary = dataclasses.replace(vocabulary, max_length=max_length)
    return SavedPredictor(predictor, vocabulary, calibration, read_json(folder / SUMMARY_FILE))
