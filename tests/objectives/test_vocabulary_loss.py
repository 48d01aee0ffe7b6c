import numpy as np
import pytest
import tensorflow as tf

from ehr_bert.model.fusing import fused_chains
from ehr_bert.objectives import vocabulary_loss as module
from ehr_bert.objectives.vocabulary_loss import vocabulary_loss, vocabulary_ranks

MASKED, HIDDEN, VOCABULARY = 23, 7, 101


def arguments():
    rng = np.random.default_rng(0)
    return (
        tf.constant(rng.normal(size=(MASKED, HIDDEN)), tf.float32),
        tf.constant(rng.normal(size=(VOCABULARY, HIDDEN)), tf.float32),
        tf.constant(rng.normal(size=VOCABULARY), tf.float32),
        tf.constant(rng.integers(0, 9, MASKED), tf.int32),  # labels come several times
        tf.constant(rng.integers(0, 3, MASKED), tf.float32),
    )


def plainly(vectors, table, bias, labels, weights):
    """The loss by TensorFlow's own operation, differentiated by its tape; how many codes come first."""
    with tf.GradientTape() as tape:
        tape.watch([vectors, table, bias])
        scores = tf.matmul(vectors, table, transpose_b=True) + bias
        loss = tf.reduce_sum(weights * tf.nn.sparse_softmax_cross_entropy_with_logits(labels, scores))
    first = tf.cast(tf.argmax(scores, axis=1, output_type=tf.int32) == labels, tf.float32)
    return loss, tf.reduce_sum(weights * first), *tape.gradient(loss, [vectors, table, bias])


@pytest.mark.parametrize("rows", [1, 5, 23, 1000])
@pytest.mark.parametrize("compiled", [False, True])
def test_loss_and_gradients_are_those_of_plain_cross_entropy(rows, compiled, monkeypatch):
    monkeypatch.setattr(module, "PIECE_ROWS", rows)

    def computed():
        with fused_chains():
            return vocabulary_loss(*arguments())

    values = tf.function(computed)() if compiled else vocabulary_loss(*arguments())
    for value, expected in zip(values, plainly(*arguments()), strict=True):
        np.testing.assert_allclose(value, expected, atol=2e-5)


def test_bfloat16_products_change_little():
    vectors, *others = arguments()
    result = vocabulary_loss(tf.cast(vectors, tf.bfloat16), *others)
    loss, _, d_vectors, d_table, d_bias = plainly(vectors, *others)
    np.testing.assert_allclose(result.loss, loss, rtol=1e-2)
    for value, expected in (
        (result.d_vectors, d_vectors),
        (result.d_table, d_table),
        (result.d_bias, d_bias),
    ):
        assert np.linalg.norm(np.asarray(value, "float32") - expected) < 0.02 * np.linalg.norm(expected)


def test_scores_that_overflow_an_exponential_are_no_trouble():
    vectors, table, bias, labels, weights = arguments()
    result = vocabulary_loss(100 * vectors, 100 * table, bias, labels, weights)
    assert np.isfinite(result.loss)
    assert np.isfinite(result.d_table).all()


@pytest.mark.parametrize("rows", [5, 1000])
def test_ranks_count_the_ids_that_score_higher(rows, monkeypatch):
    monkeypatch.setattr(module, "PIECE_ROWS", rows)
    vectors, table, bias, labels, _ = arguments()
    losses, ranks = vocabulary_ranks(vectors, table, bias, labels)
    scores = (tf.matmul(vectors, table, transpose_b=True) + bias).numpy()
    order = np.argsort(-scores, axis=1)
    np.testing.assert_array_equal(
        ranks, [list(row).index(label) for row, label in zip(order, labels, strict=True)]
    )
    expected = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, scores)
    np.testing.assert_allclose(losses, expected, atol=1e-5)
