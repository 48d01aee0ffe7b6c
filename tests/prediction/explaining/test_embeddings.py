import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import NearestNeighbors

from ehr_bert.prediction.explaining import embeddings as embeddings_module
from ehr_bert.prediction.explaining.embeddings import TokenEmbeddings, project, read_embeddings
from tests.prediction.small import CODES, TOKENS, export_folder
from tests.user_errors import raises_user_error


def random_embeddings(count, size=5, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)
    names = [f"ICD10_{'EI'[number % 2]}{number:02}" for number in range(count)]
    return TokenEmbeddings(np.array(names, object), vectors)


def test_codes_have_their_rows_of_the_embedding_table(export):
    embeddings = read_embeddings(export)
    table = load_file(export / "model.safetensors")["bert.embeddings.word_embeddings.weight"]
    assert embeddings.tokens.tolist() == CODES
    assert np.array_equal(embeddings.vectors, table[[TOKENS.index(code) for code in CODES]])


def test_a_vocabulary_without_codes_is_refused(tmp_path):
    with raises_user_error("vocabulary-too-small", "2 codes"):
        read_embeddings(export_folder(tmp_path / "export", tokens=TOKENS[:7]))


def test_neighbours_equal_those_of_scikit_learn(monkeypatch):
    monkeypatch.setattr(embeddings_module, "_CHUNK", 3)
    embeddings = random_embeddings(23)
    places = np.array([7, 0, 22, 13])
    neighbours, similarities = embeddings.neighbours(places, 4)
    nearest = NearestNeighbors(metric="cosine").fit(embeddings.vectors)
    distances, expected = nearest.kneighbors(embeddings.vectors[places], 5)
    assert np.array_equal(neighbours, expected[:, 1:])
    np.testing.assert_allclose(similarities, 1 - distances[:, 1:], atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(st.integers(3, 40), st.integers(1, 50), st.integers(0, 99))
def test_the_nearest_neighbours_come_first_and_exclude_the_token(count, k, seed):
    embeddings = random_embeddings(count, seed=seed)
    neighbours, similarities = embeddings.neighbours(np.arange(count), k)
    assert neighbours.shape == (count, min(k, count - 1))
    assert not (neighbours == np.arange(count)[:, None]).any()
    assert (np.diff(similarities) <= 0).all()
    left_out = cosine_similarity(embeddings.vectors) - 3 * np.eye(count)
    np.put_along_axis(left_out, neighbours, -2, axis=1)
    assert (left_out.max(axis=1) <= similarities[:, -1] + 1e-5).all()


def test_a_zero_vector_has_similarity_0():
    embeddings = TokenEmbeddings(
        np.array(["A", "B", "C"], object), np.array([[0, 0], [1, 0], [2, 1]], np.float32)
    )
    _, similarities = embeddings.neighbours(np.array([0]), 2)
    assert similarities.tolist() == [[0, 0]]


def test_chapter_agreement_is_counted_for_neighbours_and_for_all_others():
    embeddings = random_embeddings(9)
    names = np.array(["E", "I"] * 4 + ["E"])
    neighbours, _ = embeddings.neighbours(np.arange(9), 3)
    expected = np.mean([[names[near] == names[row] for near in neighbours[row]] for row in range(9)])
    pairs = [(one, other) for one in range(9) for other in range(9) if one != other]
    chance = np.mean([names[one] == names[other] for one, other in pairs])
    assert embeddings.chapter_agreement(3) == pytest.approx((expected, chance))


def test_an_unknown_code_is_refused(export):
    with raises_user_error("unknown-code", "ICD10_Z99"):
        read_embeddings(export).places([CODES[0], "ICD10_Z99"])


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_a_projection_separates_distant_groups_and_is_reproducible(method):
    embeddings = random_embeddings(21)
    embeddings.vectors[:, 0] += np.where(np.arange(21) % 3 == 0, 30, -30)
    places = project(embeddings, method, seed=3)
    assert places.shape == (21, 2)
    assert np.array_equal(places, project(embeddings, method, seed=3))
    group = np.arange(21) % 3 == 0
    nearest = NearestNeighbors(n_neighbors=2).fit(places).kneighbors(return_distance=False)[:, 0]
    assert (group[nearest] == group).all()
