"""Both objectives as sums, to be divided by the counts of the whole global batch."""

from typing import Any

from keras import ops


def masked_lm_sums(logits: Any, labels: Any, weights: Any) -> dict[str, Any]:
    """Cross-entropy of the masked codes.

    Args:
        logits: [B, P, V].
        labels: [B, P] integers.
        weights: [B, P], 1 where a code is masked and 0 where the place is unused.

    Returns:
        Scalars: `loss` and `correct`, summed over masked codes, and their `count`.
    """
    predicted = ops.cast(ops.argmax(logits, axis=-1), labels.dtype)
    right = ops.cast(ops.equal(predicted, labels), "float32")
    losses = ops.sparse_categorical_crossentropy(labels, ops.cast(logits, "float32"), from_logits=True)
    return {
        "loss": ops.sum(weights * losses),
        "correct": ops.sum(weights * right),
        "count": ops.sum(weights),
    }


def stay_sums(logits: Any, labels: Any, weights: Any) -> dict[str, Any]:
    """Cross-entropy of the prolonged stay, as `masked_lm_sums` with logits [B, 2], labels and weights [B]."""
    return masked_lm_sums(logits[:, None], labels[:, None], weights[:, None])
