import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import NearestNeighbors

from ehr_bert.errors import UserError
from ehr_bert.prediction.explaining import embeddings as embeddings_module
from ehr_bert.prediction.explaining.embeddings import TokenEmbeddings, flat, read_embeddings
from tests.prediction.small import CODES, TOKENS, export_folder


def random_embeddings(count, size=5, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)
    names = [f"ICD10_{'EI'[number % 2]}{number:02}" for number in range(count)]
    return TokenEmbeddings(np.array(names, object), vectors)


def test_codes_have_their_rows_of_the_table(export):
    found = read_embeddings(export)
    table = load_file(export / "model.safetensors")["bert.embeddings.word_embeddings.weight"]
    assert found.tokens.tolist() == CODES
    assert np.array_equal(found.vectors, table[[TOKENS.index(code) for code in CODES]])


def test_a_vocabulary_without_codes_is_refused(tmp_path):
    with pytest.raises(UserError, match="a vocabulary of 2 codes"):
        read_embeddings(export_folder(tmp_path / "export", tokens=TOKENS[:7]))


def test_neighbours_are_those_of_scikit_learn(monkeypatch):
    monkeypatch.setattr(embeddings_module, "_ROWS_AT_A_TIME", 3)
    embeddings = random_embeddings(23)
    places = np.array([7, 0, 22, 13])
    found, similarities = embeddings.neighbours(places, 4)
    nearest = NearestNeighbors(metric="cosine").fit(embeddings.vectors)
    distances, expected = nearest.kneighbors(embeddings.vectors[places], 5)
    assert np.array_equal(found, expected[:, 1:])
    np.testing.assert_allclose(similarities, 1 - distances[:, 1:], atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(st.integers(3, 40), st.integers(1, 50), st.integers(0, 99))
def test_nothing_is_its_own_neighbour_and_the_nearest_come_first(count, k, seed):
    embeddings = random_embeddings(count, seed=seed)
    found, similarities = embeddings.neighbours(np.arange(count), k)
    assert found.shape == (count, min(k, count - 1))
    assert not (found == np.arange(count)[:, None]).any()
    assert (np.diff(similarities) <= 0).all()
    left_out = cosine_similarity(embeddings.vectors) - 3 * np.eye(count)
    np.put_along_axis(left_out, found, -2, axis=1)
    assert (left_out.max(axis=1) <= similarities[:, -1] + 1e-5).all()


def test_a_vector_of_length_0_is_near_nothing():
    embeddings = TokenEmbeddings(
        np.array(["A", "B", "C"], object), np.array([[0, 0], [1, 0], [2, 1]], np.float32)
    )
    _, similarities = embeddings.neighbours(np.array([0]), 2)
    assert similarities.tolist() == [[0, 0]]


def test_agreement_with_the_chapter_is_counted_and_that_of_chance():
    embeddings = random_embeddings(9)
    names = np.array(["E", "I"] * 4 + ["E"])
    found, _ = embeddings.neighbours(np.arange(9), 3)
    expected = np.mean([[names[near] == names[row] for near in found[row]] for row in range(9)])
    pairs = [(one, other) for one in range(9) for other in range(9) if one != other]
    chance = np.mean([names[one] == names[other] for one, other in pairs])
    assert embeddings.chapter_agreement(3) == pytest.approx((expected, chance))


def test_an_unknown_code_is_refused(export):
    with pytest.raises(UserError, match="the model has no code 'ICD10_Z99'"):
        read_embeddings(export).places([CODES[0], "ICD10_Z99"])


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_a_map_keeps_two_far_groups_apart_and_is_the_same_again(method):
    embeddings = random_embeddings(21)
    embeddings.vectors[:, 0] += np.where(np.arange(21) % 3 == 0, 30, -30)
    places = flat(embeddings, method, seed=3)
    assert places.shape == (21, 2)
    assert np.array_equal(places, flat(embeddings, method, seed=3))
    group = np.arange(21) % 3 == 0
    nearest = NearestNeighbors(n_neighbors=2).fit(places).kneighbors(return_distance=False)[:, 0]
    assert (group[nearest] == group).all()
