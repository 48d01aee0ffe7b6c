"""Cross-entropy over the vocabulary, with its gradients, piece by piece.

Masked codes times vocabulary is by far the largest array of a step, and its three products the larger part of
the work. Here a piece of rows is scored, and its gradients made, before the next piece is looked at. The
softmax is divided by its sum only after the products, where arrays are small, and the label's own part is
added exactly. So a piece's scores are read once for the greatest, and once to write the exponentials.
"""

from typing import NamedTuple

import tensorflow as tf

from ehr_bert.model.fusing import fused

PIECE_ROWS = 1024
"""Rows of a piece at most: fewer cost as many passes over the table, more nothing but memory."""


class VocabularyLoss(NamedTuple):
    """What a batch's masked codes cost, and how that changes.

    Attributes:
        loss: Cross-entropy, summed under the weights.
        correct: Weights of the codes that come first, summed.
        d_vectors: Gradient of the loss, [M, H].
        d_table: Likewise, [V, H].
        d_bias: Likewise, [V].
    """

    loss: tf.Tensor
    correct: tf.Tensor
    d_vectors: tf.Tensor
    d_table: tf.Tensor
    d_bias: tf.Tensor


def vocabulary_loss(
    vectors: tf.Tensor, table: tf.Tensor, bias: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor
) -> VocabularyLoss:
    """The weighted cross-entropy of `softmax(vectors @ table.T + bias)`, with its gradients.

    Products are made in the type of `vectors`, all else in float32.

    Args:
        vectors: [M, H], float32 or bfloat16.
        table: [V, H].
        bias: [V].
        labels: [M] integers below V.
        weights: [M].
    """
    rows = vectors.shape[0]
    compute = vectors.dtype
    compute_table = tf.cast(table, compute)
    d_table, d_bias = tf.zeros_like(table), tf.zeros_like(bias)
    loss = correct = tf.zeros(())
    d_vectors: list[tf.Tensor] = []
    for start in range(0, rows, PIECE_ROWS):
        piece = slice(start, min(start + PIECE_ROWS, rows))
        # One piece after the other: else the executor would hold the scores of several at a time.
        with tf.control_dependencies([d_table, d_bias, *d_vectors[-1:]]):
            x = tf.identity(vectors[piece])  # [R, H]
        label, weight = labels[piece], weights[piece]  # [R]
        scores = tf.matmul(x, compute_table, transpose_b=True)  # [R, V]
        highest = fused(_highest, scores, bias)
        exponentials, total = fused(_exponentials, scores, bias, highest)
        own = tf.gather(table, label)  # [R, H]
        x32 = tf.cast(x, tf.float32)
        # From the scores themselves: the same product made another way would not be equal to the greatest.
        own_score = tf.cast(tf.gather(scores, label, batch_dims=1), tf.float32)  # [R]
        own_score += tf.gather(bias, label)
        loss += tf.reduce_sum(weight * (tf.math.log(total) + highest - own_score))
        correct += tf.reduce_sum(weight * tf.cast(own_score >= highest, tf.float32))

        share = weight / total  # [R]
        mean = tf.cast(tf.matmul(exponentials, compute_table), tf.float32)  # [R, H]
        d_vectors.append(share[:, None] * mean - weight[:, None] * own)
        scaled = tf.cast(x32 * share[:, None], compute)  # [R, H]
        of_table = tf.matmul(exponentials, scaled, transpose_a=True)  # [V, H]
        of_bias = tf.matmul(tf.cast(share, compute)[None], exponentials)[0]  # [V]
        d_table, d_bias = fused(_added, d_table, d_bias, of_table, of_bias)
    d_table = tf.tensor_scatter_nd_sub(
        d_table, labels[:, None], tf.cast(vectors, tf.float32) * weights[:, None]
    )
    d_bias = tf.tensor_scatter_nd_sub(d_bias, labels[:, None], weights)
    return VocabularyLoss(loss, correct, tf.cast(tf.concat(d_vectors, axis=0), compute), d_table, d_bias)


def _highest(scores: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """The highest score of each row, [R]."""
    return tf.reduce_max(tf.cast(scores, tf.float32) + bias, axis=1)


def _exponentials(scores: tf.Tensor, bias: tf.Tensor, highest: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """exp(score - highest), [R, V], and the sum of each row's, [R]."""
    exponentials = tf.exp(tf.cast(scores, tf.float32) + bias - highest[:, None])
    return tf.cast(exponentials, scores.dtype), tf.reduce_sum(exponentials, axis=1)


def _added(
    table: tf.Tensor, bias: tf.Tensor, of_table: tf.Tensor, of_bias: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """A piece's part of both gradients added to those of the pieces before."""
    return table + tf.cast(of_table, table.dtype), bias + tf.cast(of_bias, bias.dtype)


def vocabulary_ranks(
    vectors: tf.Tensor, table: tf.Tensor, bias: tf.Tensor, labels: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The cross-entropy of each label, and how many ids score higher: float32 and int32 [M].

    The arguments are those of `vocabulary_loss`.
    """
    rows = vectors.shape[0]
    compute_table = tf.cast(table, vectors.dtype)
    losses: list[tf.Tensor] = []
    ranks: list[tf.Tensor] = []
    for start in range(0, rows, PIECE_ROWS):
        piece = slice(start, min(start + PIECE_ROWS, rows))
        with tf.control_dependencies(ranks[-1:]):
            x, label = tf.identity(vectors[piece]), labels[piece]  # [R, H], [R]
        scores = tf.matmul(x, compute_table, transpose_b=True)  # [R, V]
        loss, rank = fused(_ranks, scores, bias, label)
        losses.append(loss)
        ranks.append(rank)
    return tf.concat(losses, axis=0), tf.concat(ranks, axis=0)


def _ranks(scores: tf.Tensor, bias: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    biased = tf.cast(scores, tf.float32) + bias  # [R, V]
    own = tf.gather(biased, labels, batch_dims=1)  # [R]
    higher = tf.reduce_sum(tf.cast(biased > own[:, None], tf.int32), axis=1)
    return tf.reduce_logsumexp(biased, axis=1) - own, higher
