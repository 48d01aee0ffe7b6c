"""Encoders: a vector for each token of a history.

`BertEncoder` holds a stock `BertModel`; `CodeEmbedding` is what models from scratch begin with.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import BertConfig, BertModel
from transformers.utils import logging

from ehr_bert.errors import UserError
from ehr_bert.prediction.batches import PaddedBatch

EMBEDDING_SIZE = 128
"""The width of the models from scratch."""

Attention = Literal["sdpa", "eager"]
"""PyTorch's fused attention, or the one that can tell its weights."""


class HistoryEncoder(nn.Module):
    """Base of the encoders."""

    @property
    def hidden_size(self) -> int:
        """H, the size of a token's vector."""
        return self.token_embedding.embedding_dim

    @property
    def token_embedding(self) -> nn.Embedding:
        """The table of the tokens: `[V, H]`."""
        raise NotImplementedError

    @property
    def levels(self) -> list[nn.Module]:
        """The parts from the lowest, the embeddings, to the highest."""
        raise NotImplementedError

    def forward(self, batch: PaddedBatch) -> torch.Tensor:
        """The vectors of a batch's tokens: `[B, T, H]`."""
        raise NotImplementedError


class BertEncoder(HistoryEncoder):
    """A stock `BertModel`. Its pooler isn't used, and kept as it is.

    Args:
        bert: The model.
    """

    def __init__(self, bert: BertModel) -> None:
        super().__init__()
        self.bert = bert
        self.bert.pooler.requires_grad_(False)

    @property
    def token_embedding(self) -> nn.Embedding:
        """The table of the tokens: `[V, H]`."""
        return self.bert.embeddings.word_embeddings

    @property
    def levels(self) -> list[nn.Module]:
        """The embeddings, then the layers."""
        return [self.bert.embeddings, *self.bert.encoder.layer]

    def forward(self, batch: PaddedBatch) -> torch.Tensor:
        """The last layer's vectors: `[B, T, H]`."""
        return self.bert(
            input_ids=batch.token_ids,
            token_type_ids=batch.visit_ids,
            attention_mask=batch.attention_mask,
        ).last_hidden_state


class CodeEmbedding(HistoryEncoder):
    """A vector for each code, whatever stands around it.

    Args:
        tokens: V, the first of which is padding.
        hidden_size: H.
        dropout: Share of the vectors' numbers that are dropped in training.
    """

    def __init__(self, tokens: int, hidden_size: int = EMBEDDING_SIZE, dropout: float = 0.2) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, hidden_size, padding_idx=0)
        nn.init.normal_(self.embedding.weight, std=hidden_size**-0.5)
        with torch.no_grad():
            self.embedding.weight[0] = 0
        self.dropout = nn.Dropout(dropout)

    @property
    def token_embedding(self) -> nn.Embedding:
        """The table of the codes: `[V, H]`."""
        return self.embedding

    @property
    def levels(self) -> list[nn.Module]:
        """The table alone."""
        return [self.embedding]

    def forward(self, batch: PaddedBatch) -> torch.Tensor:
        """The codes' vectors: `[B, T, H]`."""
        return self.dropout(self.embedding(batch.token_ids))


def bert_encoder(folder: Path, attention: Attention = "sdpa") -> BertEncoder:
    """The pretrained encoder of an export folder, its dropout off.

    Args:
        folder: An export folder, or a saved predictor.
        attention: How attention is computed.

    Raises:
        UserError: the folder holds no BERT.
    """
    try:
        with quietly():
            bert = BertModel.from_pretrained(_with_config(folder), attn_implementation=attention)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(f"the weights in {folder} can't be read: {' '.join(str(error).split())}") from error
    return BertEncoder(bert).eval()


def untrained_bert(folder: Path, seed: int) -> BertEncoder:
    """An encoder of an export folder's shape, its weights random.

    Args:
        folder: An export folder.
        seed: Decides the weights.

    Raises:
        UserError: the folder holds no BERT.
    """
    config = BertConfig.from_pretrained(_with_config(folder), attn_implementation="sdpa")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return BertEncoder(BertModel(config)).eval()


def code_embedding(tokens: int, seed: int) -> CodeEmbedding:
    """Vectors for so many tokens, random by `seed`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return CodeEmbedding(tokens).eval()


@contextmanager
def quietly() -> Iterator[None]:
    """Transformers without progress bars, or a word on the pretraining's heads, which are left out."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _with_config(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} holds no config.json: name a folder that `ehr-bert convert` made")
    return folder
