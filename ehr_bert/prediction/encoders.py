"""Encoders, which compute a vector for each token of a history.

`BertEncoder` wraps a stock `BertModel`. `CodeEmbedding` is the encoder of the networks from scratch.
"""

from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import BertConfig, BertModel

from ehr_bert.errors import UserError
from ehr_bert.prediction.batches import PaddedBatch
from ehr_bert.quiet import quiet_transformers

EMBEDDING_SIZE = 128
"""Width of the networks from scratch."""

Attention = Literal["sdpa", "eager"]
"""PyTorch's fused attention, or the implementation that can return its weights."""


class HistoryEncoder(nn.Module):
    """Base class of the encoders."""

    @property
    def hidden_size(self) -> int:
        """H, the size of a token vector."""
        return self.token_embedding.embedding_dim

    @property
    def token_embedding(self) -> nn.Embedding:
        """Embedding table of the tokens: `[V, H]`."""
        raise NotImplementedError

    @property
    def levels(self) -> list[nn.Module]:
        """The modules with weights, from the embeddings, the lowest, to the top layer."""
        raise NotImplementedError

    def forward(self, batch: PaddedBatch) -> torch.Tensor:
        """Return the token vectors of a batch: `[B, T, H]`."""
        raise NotImplementedError


class BertEncoder(HistoryEncoder):
    """A stock `BertModel`. Its pooler is not used, but kept unchanged.

    Args:
        bert: The model.
    """

    def __init__(self, bert: BertModel) -> None:
        super().__init__()
        self.bert = bert
        self.bert.pooler.requires_grad_(False)

    @property
    def token_embedding(self) -> nn.Embedding:
        """Embedding table of the tokens: `[V, H]`."""
        return self.bert.embeddings.word_embeddings

    @property
    def levels(self) -> list[nn.Module]:
        """The embeddings and the layers."""
        return [self.bert.embeddings, *self.bert.encoder.layer]

    def forward(self, batch: PaddedBatch) -> torch.Tensor:
        """Return the vectors of the last layer: `[B, T, H]`."""
        return self.bert(
            input_ids=batch.token_ids,
            token_type_ids=batch.visit_ids,
            attention_mask=batch.attention_mask,
        ).last_hidden_state


class CodeEmbedding(HistoryEncoder):
    """One vector per code, independent of its context.

    Args:
        tokens: V. The first token is padding.
        hidden_size: H.
        dropout: Dropout rate of the vectors.
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
        """Embedding table of the codes: `[V, H]`."""
        return self.embedding

    @property
    def levels(self) -> list[nn.Module]:
        """The embedding table."""
        return [self.embedding]

    def forward(self, batch: PaddedBatch) -> torch.Tensor:
        """Return the vectors of the codes: `[B, T, H]`."""
        return self.dropout(self.embedding(batch.token_ids))


def bert_encoder(folder: Path, attention: Attention = "sdpa") -> BertEncoder:
    """Load the pretrained encoder of an export folder, with its dropout off.

    Args:
        folder: An export folder, or a saved predictor.
        attention: Implementation of the attention.

    Raises:
        UserError: The folder has no BERT (key `not-an-export`), or its weights cannot be read
            (`unreadable-weights`).
    """
    try:
        with quiet_transformers():
            bert = BertModel.from_pretrained(_with_config(folder), attn_implementation=attention)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(
            "unreadable-weights",
            f"the weights in {folder} cannot be read: {' '.join(str(error).split())}. "
            "Make the folder again with `ehr-bert convert`.",
        ) from error
    return BertEncoder(bert).eval()


def untrained_bert(folder: Path, seed: int) -> BertEncoder:
    """Create an encoder with the shape of an export folder's model and random weights.

    Args:
        folder: An export folder.
        seed: Seed of the weights.

    Raises:
        UserError: The folder has no BERT (key `not-an-export`).
    """
    config = BertConfig.from_pretrained(_with_config(folder), attn_implementation="sdpa")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return BertEncoder(BertModel(config)).eval()


def code_embedding(tokens: int, seed: int) -> CodeEmbedding:
    """Create an embedding of V tokens with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return CodeEmbedding(tokens).eval()


def _with_config(folder: Path) -> Path:
    """Return a folder with a `config.json`. Transformers would look for others on the network."""
    if not (folder / "config.json").is_file():
        raise UserError(
            "not-an-export",
            f"{folder} has no config.json. Choose a folder that `ehr-bert convert` wrote.",
        )
    return folder
