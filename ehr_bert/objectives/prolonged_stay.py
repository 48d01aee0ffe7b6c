"""Prolonged stay: whether any hospital stay of the history was long (Rasmy et al. 2021)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ehr_bert.errors import UserError
from ehr_bert.model.config import ModelConfig
from ehr_bert.objectives.objective import Objective, ObjectiveMetric, ObjectiveSettings, TensorsByName
from ehr_bert.schemas import PROLONGED_STAY_DAYS
from ehr_bert.settings import Natural

if TYPE_CHECKING:
    import tensorflow as tf

    from ehr_bert.examples.labels import StoredWindows
    from ehr_bert.examples.source import ExamplesInfo
    from ehr_bert.model.pretraining import BatchTensors


@dataclass(frozen=True)
class ProlongedStaySettings(ObjectiveSettings):
    """Settings of the prolonged-stay objective.

    Attributes:
        threshold_days: A stay is prolonged if it has more days. The labels of the tutorial's examples are
            stored, with a threshold of 7 days.
    """

    threshold_days: Natural = PROLONGED_STAY_DAYS


class ProlongedStay(Objective[ProlongedStaySettings]):
    """Predicts whether a patient had a prolonged stay, from the patient's hidden states.

    The labels are `stay_labels`, int32 `[S]`, 1 for a prolonged stay.
    """

    settings_type = ProlongedStaySettings
    stock_head = True
    sum_names = ("loss", "correct")
    short_title = "stay"
    prefix = "next_sentence"
    baseline_prefix = "prevalence"
    shown_metrics = (
        ObjectiveMetric("loss", "loss", lower_is_better=True, compared=False),
        ObjectiveMetric("auroc", "AUROC"),
        ObjectiveMetric("average_precision", "average precision", compared=False),
    )
    published_metrics = ("accuracy", "auroc", "loss")

    def check_examples(self, info: "ExamplesInfo") -> None:
        """Refuse a threshold that the tutorial's examples were not written with.

        Raises:
            UserError: The examples have another threshold (key `stay-threshold-fixed`).
        """
        from ehr_bert.examples.packed import PACKED

        days = self.settings.threshold_days
        if info.kind != PACKED and days != PROLONGED_STAY_DAYS:
            raise UserError(
                "stay-threshold-fixed",
                f"{self.name}.threshold_days is {days}, but the tutorial's examples were written with "
                f"{PROLONGED_STAY_DAYS}. Leave it out, or write packed examples (ehr-bert features).",
            )

    def labels(self, windows: "StoredWindows") -> TensorsByName:
        """Return `stay_labels`."""
        import tensorflow as tf

        if "next_sentence_labels" in windows.by_patient:  # the tutorial's examples
            return {"stay_labels": windows.by_patient["next_sentence_labels"]}
        prolonged = windows.by_patient["longest_stays"] > self.settings.threshold_days  # [W, Y]
        return {"stay_labels": tf.cast((windows.patient_weights > 0) & prolonged, tf.int32)}

    def flops(self, config: ModelConfig) -> float:
        """Return the operations of the pooler and of two scores, per patient."""
        return 2 * config.hidden_size**2 + 4 * config.hidden_size

    def loss(self, outputs: "tf.Tensor", batch: "BatchTensors") -> TensorsByName:
        """Return the cross-entropy of logits `[S, 2]`, and the correct predictions."""
        import tensorflow as tf

        labels, weights = batch["stay_labels"], batch["patient_weights"]  # [S]
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, tf.cast(outputs, tf.float32))
        is_correct = tf.equal(tf.argmax(outputs, axis=1, output_type=labels.dtype), labels)
        return {
            "loss": tf.reduce_sum(weights * losses),
            "correct": tf.reduce_sum(weights * tf.cast(is_correct, tf.float32)),
        }

    def predictions(self, outputs: "tf.Tensor", batch: "BatchTensors") -> TensorsByName:
        """Return the predicted probabilities and the labels."""
        import tensorflow as tf

        risks = tf.nn.softmax(tf.cast(outputs, tf.float32))[:, 1]
        return {"risks": risks, "labels": batch["stay_labels"]}

    def metrics(self, sums: Mapping[str, Any], predictions: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Return loss, accuracy, AUROC and average precision; the last two are NaN if all labels agree."""
        from sklearn.metrics import average_precision_score, roc_auc_score

        values = super().metrics(sums, predictions)
        if not predictions:
            return values
        labels, risks = predictions["labels"], predictions["risks"]
        both_classes = 0 < labels.sum() < len(labels)
        return values | {
            "auroc": float(roc_auc_score(labels, risks)) if both_classes else math.nan,
            "average_precision": float(average_precision_score(labels, risks)) if both_classes else math.nan,
        }

    def baseline(
        self, sums: Mapping[str, Any], predictions: Mapping[str, np.ndarray], occurrences: np.ndarray
    ) -> dict[str, float]:
        """Return the metrics of `prevalence`."""
        return prevalence(predictions["labels"])


def prevalence(labels: np.ndarray) -> dict[str, float]:
    """Return the metrics of a baseline that predicts the prevalence for every patient.

    Args:
        labels: 1 for a prolonged stay, else 0, int `[N]`.
    """
    share = float(labels.mean()) if len(labels) else math.nan
    both_classes = 0 < share < 1
    entropy = -share * math.log(share) - (1 - share) * math.log1p(-share) if both_classes else 0.0
    return {
        "loss": entropy,
        "accuracy": max(share, 1 - share),
        "auroc": 0.5 if both_classes else math.nan,
        "average_precision": share if both_classes else math.nan,
    }
