"""The table of a model's tokens: what lies near a code, and all of it drawn flat."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ehr_bert.codes.chapters import chapter
from ehr_bert.errors import UserError
from ehr_bert.prediction.encoders import bert_encoder
from ehr_bert.prediction.reading import ModelVocabulary
from ehr_bert.schemas import SpecialToken

TSNE_COMPONENTS = 50
"""Principal components that t-SNE begins with."""

PERPLEXITY = 30
"""About how many neighbours t-SNE keeps near each token."""

NEAREST = 10
"""Neighbours of a code that are looked at, if not stated."""

_ROWS_AT_A_TIME = 1024


@dataclass(frozen=True)
class TokenEmbeddings:
    """The vectors of `V` tokens, special ones left out.

    Attributes:
        tokens: Codes and context tokens: object `[V]`.
        vectors: float32 `[V, H]`.
    """

    tokens: np.ndarray
    vectors: np.ndarray

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def directions(self) -> np.ndarray:
        """The vectors at length 1, float32 `[V, H]`; one of length 0 stays as it is."""
        lengths = np.linalg.norm(self.vectors, axis=1, keepdims=True)
        return self.vectors / np.where(lengths > 0, lengths, 1)

    @cached_property
    def chapters(self) -> np.ndarray:
        """The chapter of each token: object `[V]`."""
        return np.array([chapter(token) for token in self.tokens], object)

    def places(self, codes: Sequence[str]) -> np.ndarray:
        """Where codes stand among the tokens: int64 `[Q]`.

        Raises:
            UserError: the model doesn't know one of them.
        """
        place = {token: number for number, token in enumerate(self.tokens)}
        unknown = [code for code in codes if code not in place]
        if unknown:
            raise UserError(f"the model has no code {unknown[0]!r}: codes stand in its vocab.json")
        return np.array([place[code] for code in codes], np.int64)

    def neighbours(self, places: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The tokens whose vectors point most nearly where some tokens' do.

        Args:
            places: Which tokens: int64 `[Q]`.
            k: How many of each; all others where there are fewer.

        Returns:
            Their places and cosine similarities, the nearest first: int64 and float32 `[Q, k]`.
        """
        k = min(k, len(self) - 1)
        found, similarities = np.empty((len(places), k), np.int64), np.empty((len(places), k), np.float32)
        for start in range(0, len(places), _ROWS_AT_A_TIME):
            rows = places[start : start + _ROWS_AT_A_TIME]
            cosine = self.directions[rows] @ self.directions.T  # [rows, V]
            cosine[np.arange(len(rows)), rows] = -np.inf
            nearest = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
            order = np.argsort(-np.take_along_axis(cosine, nearest, axis=1), axis=1, kind="stable")
            nearest = np.take_along_axis(nearest, order, axis=1)
            found[start : start + len(rows)] = nearest
            similarities[start : start + len(rows)] = np.take_along_axis(cosine, nearest, axis=1)
        return found, similarities

    def chapter_agreement(self, k: int = NEAREST) -> tuple[float, float]:
        """How often a token's `k` nearest neighbours are of its own chapter, and how often any others are.

        Returns:
            The share among neighbours, and the share among all other tokens, which is that of chance.
        """
        _, numbers = np.unique(self.chapters, return_inverse=True)
        nearest, _ = self.neighbours(np.arange(len(self)), k)
        among_neighbours = np.mean(numbers[nearest] == numbers[:, None])
        counts = np.bincount(numbers)
        among_others = np.sum(counts * (counts - 1)) / (len(self) * (len(self) - 1))
        return float(among_neighbours), float(among_others)


def read_embeddings(folder: Path) -> TokenEmbeddings:
    """The token table of an export folder, or of a fine-tuned model.

    Raises:
        UserError: the folder holds no model, or fewer than three tokens.
    """
    ids = ModelVocabulary.of_folder(folder).ids
    table = bert_encoder(folder).token_embedding.weight.detach().float().numpy()  # [V, H]
    special = {token.value for token in SpecialToken}
    kept = {token: index for token, index in ids.items() if token not in special}
    if len(kept) < 3:
        raise UserError(f"{folder}: a vocabulary of {len(kept)} codes is too small to look at")
    return TokenEmbeddings(np.array(list(kept), object), table[list(kept.values())])


def flat(embeddings: TokenEmbeddings, method: str, seed: int = 0) -> np.ndarray:
    """The tokens on a plane, those near each other whose vectors point the same way.

    Args:
        embeddings: `V` tokens.
        method: `tsne` keeps neighbours together, `pca` shows the two directions of the largest spread.
        seed: Decides where t-SNE ends.

    Returns:
        float64 `[V, 2]`.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    components = 2 if method == "pca" else min(TSNE_COMPONENTS, *embeddings.vectors.shape)
    reduced = PCA(components, svd_solver="full").fit_transform(embeddings.directions.astype(np.float64))
    if method == "pca":
        return reduced
    perplexity = min(PERPLEXITY, (len(embeddings) - 1) / 3)
    return (
        TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced).astype(np.float64)
    )
