"""A pretraining objective: whether a patient has more visits than a threshold."""

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from ehr_bert.objectives.objective import Objective, ObjectiveMetric, ObjectiveSettings
from ehr_bert.settings import Natural


@dataclass(frozen=True)
class VisitCountSettings(ObjectiveSettings):
    """Settings of the objective.

    Attributes:
        threshold_visits: Number of visits that the label is above.
    """

    threshold_visits: Natural = 3


class VisitCountHead(keras.Layer):
    """Scores each patient by the hidden state of its first token."""

    def __init__(self, **layer_arguments):
        super().__init__(**layer_arguments)
        self.score = keras.layers.Dense(1, name="score", dtype=self.dtype_policy)

    def call(self, hidden, batch, layout):
        """Map hidden states, `[P, H]`, to logits, `[S]`."""
        return self.score(ops.take(hidden, batch["patient_places"], axis=0))[:, 0]


class VisitCount(Objective[VisitCountSettings]):
    """Predicts whether a patient has more than `threshold_visits` visits."""

    settings_type = VisitCountSettings
    sum_names = ("loss", "correct")
    shown_metrics = (
        ObjectiveMetric("loss", "loss", lower_is_better=True),
        ObjectiveMetric("accuracy", "accuracy"),
    )

    def labels(self, windows):
        """Return `visit_count_labels`, float32 `[W, Y]`."""
        slots = tf.range(1, windows.patient_weights.shape[1] + 1)
        is_own = windows.patient_ids[:, None, :] == slots[None, :, None]  # [W, Y, T]
        visits = tf.reduce_max(tf.where(is_own, windows.visit_ids[:, None, :], 0), axis=2)
        return {"visit_count_labels": tf.cast(visits > self.settings.threshold_visits, tf.float32)}

    def head(self, config, **layer_arguments):
        """Make the head."""
        return VisitCountHead(**layer_arguments)

    def flops(self, config):
        """Count one score."""
        return 2 * config.hidden_size

    def loss(self, outputs, batch):
        """Return the binary cross-entropy of logits `[S]`, and the correct predictions."""
        labels, weights = batch["visit_count_labels"], batch["patient_weights"]
        logits = tf.cast(outputs, tf.float32)
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
        is_correct = tf.cast((logits > 0) == (labels > 0), tf.float32)
        return {"loss": tf.reduce_sum(weights * losses), "correct": tf.reduce_sum(weights * is_correct)}

    def predictions(self, outputs, batch):
        """Return the labels, for the baseline."""
        return {"labels": batch["visit_count_labels"]}

    def baseline(self, sums, predictions, occurrences):
        """Return the metrics of predicting the prevalence."""
        shares = np.array([predictions["labels"].mean(), 1 - predictions["labels"].mean()])
        shares = shares[shares > 0]
        return {"loss": float(-(shares * np.log(shares)).sum()), "accuracy": float(shares.max())}
