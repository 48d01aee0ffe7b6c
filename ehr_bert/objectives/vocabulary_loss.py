"""Cross-entropy over the vocabulary with its gradients, computed in pieces.

The scores, masked codes times vocabulary, are the largest array of a step, and their three matrix products
take most of its time. Each piece of rows is scored and differentiated before the next one. The softmax is
divided by its sum after the products, where arrays are small, and the part of the label is added exactly. The
scores of a piece are read twice: for the maximum and for the exponentials.

Legend: M masked codes, H hidden size, V vocabulary, N rows of a piece.
"""

from typing import NamedTuple

import tensorflow as tf

from ehr_bert.model.fusing import fused

PIECE_ROWS = 1024
"""Maximum number of rows of a piece. With fewer rows, the table is read more often; more need more memory."""


class VocabularyLoss(NamedTuple):
    """Loss of the masked codes of a batch, with its gradients.

    Attributes:
        loss: Weighted sum of the cross-entropies.
        correct: Sum of the weights of codes with the highest score.
        d_vectors: Gradient with respect to the vectors, `[M, H]`.
        d_table: Gradient with respect to the table, `[V, H]`.
        d_bias: Gradient with respect to the bias, `[V]`.
    """

    loss: tf.Tensor
    correct: tf.Tensor
    d_vectors: tf.Tensor
    d_table: tf.Tensor
    d_bias: tf.Tensor


def vocabulary_loss(
    vectors: tf.Tensor, table: tf.Tensor, bias: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor
) -> VocabularyLoss:
    """Return the weighted cross-entropy of `softmax(vectors @ table.T + bias)`, with its gradients.

    Products have the type of `vectors`; everything else is in float32.

    Args:
        vectors: float32 or bfloat16 `[M, H]`.
        table: float32 `[V, H]`.
        bias: float32 `[V]`.
        labels: Integers below V, `[M]`.
        weights: float32 `[M]`.
    """
    rows = vectors.shape[0]
    compute = vectors.dtype
    compute_table = tf.cast(table, compute)
    d_table, d_bias = tf.zeros_like(table), tf.zeros_like(bias)
    loss = correct = tf.zeros(())
    d_vectors: list[tf.Tensor] = []
    for start in range(0, rows, PIECE_ROWS):
        piece = slice(start, min(start + PIECE_ROWS, rows))
        # Pieces are computed one after another. Otherwise the scores of several could be in memory at a time.
        with tf.control_dependencies([d_table, d_bias, *d_vectors[-1:]]):
            x = tf.identity(vectors[piece])  # [N, H]
        label, weight = labels[piece], weights[piece]  # [N]
        scores = tf.matmul(x, compute_table, transpose_b=True)  # [N, V]
        highest = fused(_highest, scores, bias)
        exponentials, total = fused(_exponentials, scores, bias, highest)
        label_rows = tf.gather(table, label)  # [N, H]
        x32 = tf.cast(x, tf.float32)
        # Taken from the scores, since another product may round differently and never equal the maximum.
        label_score = tf.cast(tf.gather(scores, label, batch_dims=1), tf.float32)  # [N]
        label_score += tf.gather(bias, label)
        loss += tf.reduce_sum(weight * (tf.math.log(total) + highest - label_score))
        correct += tf.reduce_sum(weight * tf.cast(label_score >= highest, tf.float32))

        share = weight / total  # [N]
        mean = tf.cast(tf.matmul(exponentials, compute_table), tf.float32)  # [N, H]
        d_vectors.append(share[:, None] * mean - weight[:, None] * label_rows)
        scaled = tf.cast(x32 * share[:, None], compute)  # [N, H]
        of_table = tf.matmul(exponentials, scaled, transpose_a=True)  # [V, H]
        of_bias = tf.matmul(tf.cast(share, compute)[None], exponentials)[0]  # [V]
        d_table, d_bias = fused(_added, d_table, d_bias, of_table, of_bias)
    d_table = tf.tensor_scatter_nd_sub(
        d_table, labels[:, None], tf.cast(vectors, tf.float32) * weights[:, None]
    )
    d_bias = tf.tensor_scatter_nd_sub(d_bias, labels[:, None], weights)
    return VocabularyLoss(loss, correct, tf.cast(tf.concat(d_vectors, axis=0), compute), d_table, d_bias)


def _highest(scores: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Return the highest score of each row, `[N]`."""
    return tf.reduce_max(tf.cast(scores, tf.float32) + bias, axis=1)


def _exponentials(scores: tf.Tensor, bias: tf.Tensor, highest: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return `exp(score - highest)`, `[N, V]`, and its sum in each row, `[N]`."""
    exponentials = tf.exp(tf.cast(scores, tf.float32) + bias - highest[:, None])
    return tf.cast(exponentials, scores.dtype), tf.reduce_sum(exponentials, axis=1)


def _added(
    table: tf.Tensor, bias: tf.Tensor, of_table: tf.Tensor, of_bias: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Add a piece's part to the gradients of the previous pieces."""
    return table + tf.cast(of_table, table.dtype), bias + tf.cast(of_bias, bias.dtype)


def vocabulary_ranks(
    vectors: tf.Tensor, table: tf.Tensor, bias: tf.Tensor, labels: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the cross-entropy of each label, and the number of ids with a higher score, float32 and int32
    `[M]`.

    The arguments are those of `vocabulary_loss`.
    """
    rows = vectors.shape[0]
    compute_table = tf.cast(table, vectors.dtype)
    losses: list[tf.Tensor] = []
    ranks: list[tf.Tensor] = []
    for start in range(0, rows, PIECE_ROWS):
        piece = slice(start, min(start + PIECE_ROWS, rows))
        with tf.control_dependencies(ranks[-1:]):
            x, label = tf.identity(vectors[piece]), labels[piece]  # [N, H], [N]
        scores = tf.matmul(x, compute_table, transpose_b=True)  # [N, V]
        loss, rank = fused(_ranks, scores, bias, label)
        losses.append(loss)
        ranks.append(rank)
    return tf.concat(losses, axis=0), tf.concat(ranks, axis=0)


def _ranks(scores: tf.Tensor, bias: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    biased = tf.cast(scores, tf.float32) + bias  # [N, V]
    label_scores = tf.gather(biased, labels, batch_dims=1)  # [N]
    higher = tf.reduce_sum(tf.cast(biased > label_scores[:, None], tf.int32), axis=1)
    return tf.reduce_logsumexp(biased, axis=1) - label_scores, higher
