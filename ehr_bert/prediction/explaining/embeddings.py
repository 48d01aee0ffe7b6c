"""Token embeddings of a model: nearest neighbours of codes, and a projection onto a plane."""

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
"""Number of principal components that t-SNE starts from."""

PERPLEXITY = 30
"""Perplexity of t-SNE, about the number of neighbours that stay close to each token."""

NEAREST = 10
"""Default number of neighbours of a code."""

_CHUNK = 1024


@dataclass(frozen=True)
class TokenEmbeddings:
    """Embeddings of the tokens of a vocabulary without the special tokens.

    Attributes:
        tokens: Codes and context tokens: object `[V]`.
        vectors: Embeddings: float32 `[V, H]`.
    """

    tokens: np.ndarray
    vectors: np.ndarray

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def directions(self) -> np.ndarray:
        """Vectors scaled to length 1: float32 `[V, H]`. A vector of length 0 is not changed."""
        lengths = np.linalg.norm(self.vectors, axis=1, keepdims=True)
        return self.vectors / np.where(lengths > 0, lengths, 1)

    @cached_property
    def chapters(self) -> np.ndarray:
        """Chapter of each token: object `[V]`."""
        return np.array([chapter(token) for token in self.tokens], object)

    def places(self, codes: Sequence[str]) -> np.ndarray:
        """Return the positions of codes among the tokens: int64.

        Raises:
            UserError: A code is not in the vocabulary (key `unknown-code`).
        """
        positions = {token: position for position, token in enumerate(self.tokens)}
        unknown = [code for code in codes if code not in positions]
        if unknown:
            raise UserError(
                "unknown-code", f"the model has no code {unknown[0]!r}. Choose a code from its vocab.json."
            )
        return np.array([positions[code] for code in codes], np.int64)

    def neighbours(self, places: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the nearest neighbours of some tokens by cosine similarity.

        Args:
            places: Positions of the tokens: int64.
            k: Number of neighbours of each token, at most all other tokens.

        Returns:
            Positions (int64) and cosine similarities (float32) of the neighbours, the nearest first: `k` per
            token.
        """
        k = min(k, len(self) - 1)
        neighbours = np.empty((len(places), k), np.int64)
        similarities = np.empty((len(places), k), np.float32)
        for start in range(0, len(places), _CHUNK):
            rows = places[start : start + _CHUNK]
            cosine = self.directions[rows] @ self.directions.T  # [rows, V]
            cosine[np.arange(len(rows)), rows] = -np.inf
            nearest = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
            order = np.argsort(-np.take_along_axis(cosine, nearest, axis=1), axis=1, kind="stable")
            nearest = np.take_along_axis(nearest, order, axis=1)
            neighbours[start : start + len(rows)] = nearest
            similarities[start : start + len(rows)] = np.take_along_axis(cosine, nearest, axis=1)
        return neighbours, similarities

    def chapter_agreement(self, k: int = NEAREST) -> tuple[float, float]:
        """Return how often tokens and their neighbours belong to the same chapter.

        Returns:
            The share among the `k` nearest neighbours, and the share among all other tokens, as expected
            by chance.
        """
        _, numbers = np.unique(self.chapters, return_inverse=True)
        nearest, _ = self.neighbours(np.arange(len(self)), k)
        among_neighbours = np.mean(numbers[nearest] == numbers[:, None])
        counts = np.bincount(numbers)
        among_others = np.sum(counts * (counts - 1)) / (len(self) * (len(self) - 1))
        return float(among_neighbours), float(among_others)


def read_embeddings(folder: Path) -> TokenEmbeddings:
    """Read the token embeddings of an export folder or of a fine-tuned model.

    Raises:
        UserError: The folder has no model, or fewer than three codes (key `vocabulary-too-small`).
    """
    ids = ModelVocabulary.of_folder(folder).ids
    table = bert_encoder(folder).token_embedding.weight.detach().float().numpy()  # [V, H]
    special = {token.value for token in SpecialToken}
    shown = {token: index for token, index in ids.items() if token not in special}
    if len(shown) < 3:
        raise UserError(
            "vocabulary-too-small",
            f"{folder}: a vocabulary of {len(shown)} codes is too small for a map. Choose another model.",
        )
    return TokenEmbeddings(np.array(list(shown), object), table[list(shown.values())])


def project(embeddings: TokenEmbeddings, method: str, seed: int = 0) -> np.ndarray:
    """Project the directions of token embeddings onto a plane.

    Args:
        embeddings: Embeddings of `V` tokens.
        method: `tsne` keeps neighbours together; `pca` shows the two directions of the largest variance.
        seed: Random seed of t-SNE.

    Returns:
        Coordinates: float64 `[V, 2]`.
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
