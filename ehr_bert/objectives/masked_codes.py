"""Masked codes: predict the codes that are masked in the input (Devlin et al. 2019, section 3.1, task 1)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ehr_bert.errors import UserError
from ehr_bert.model.config import ModelConfig
from ehr_bert.objectives.objective import (
    LossWithGradients,
    Objective,
    ObjectiveMetric,
    ObjectiveSettings,
    TensorsByName,
)
from ehr_bert.settings import PositiveShare, Share

if TYPE_CHECKING:
    import tensorflow as tf

    from ehr_bert.examples.source import ExamplesInfo
    from ehr_bert.model.pretraining import BatchTensors, PretrainingModel

TOP_RANKS = (5, 10)
"""Ranks of the top-k accuracies."""


@dataclass(frozen=True)
class MaskedCodesSettings(ObjectiveSettings):
    """Settings of the masked-code objective.

    Packed examples are masked anew in every epoch, even if the objective is disabled. The tutorial's examples
    were masked when they were written.

    Attributes:
        probability: Share of a window's codes that are masked.
        mask_share: Share of the masked codes that become `[MASK]`.
        random_share: Share of the masked codes that become a random code. The others are unchanged.
    """

    probability: PositiveShare = 0.15
    mask_share: Share = 0.8
    random_share: Share = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mask_share + self.random_share > 1:
            raise UserError(
                "shares-above-one",
                f"mask_share {self.mask_share} and random_share {self.random_share} add up to more than 1. "
                "Lower one of them.",
            )


class MaskedCodes(Objective[MaskedCodesSettings]):
    """Predicts masked codes with a score for each token of the vocabulary.

    Its labels `masked_ids` are in every batch, since `ehr_bert.examples` masks the windows.
    """

    settings_type = MaskedCodesSettings
    used_when_disabled = ("probability", "mask_share", "random_share")
    stock_head = True
    weights = "masked_weights"
    sum_names = ("loss", "correct")
    computes_gradients = True
    short_title = "codes"
    prefix = "masked_lm"
    baseline_prefix = "code_frequencies"
    shown_metrics = (
        ObjectiveMetric("loss", "loss", lower_is_better=True),
        ObjectiveMetric("accuracy", "accuracy"),
        ObjectiveMetric("accuracy_top_10", "top-10 accuracy"),
    )
    published_metrics = ("accuracy", "loss")

    def check_examples(self, info: "ExamplesInfo") -> None:
        """Refuse masking settings for the tutorial's examples.

        Raises:
            UserError: A setting differs from its default (key `masking-fixed`).
        """
        from ehr_bert.examples.packed import PACKED

        default = MaskedCodesSettings()
        for key in self.used_when_disabled:
            value = getattr(self.settings, key)
            if info.kind != PACKED and value != getattr(default, key):
                raise UserError(
                    "masking-fixed",
                    f"{self.name}.{key} is {value}, but the tutorial's examples were masked when they were "
                    "written. Leave it out, or write packed examples (ehr-bert features).",
                )

    def expected_count(self, real_tokens: float, patients: float, info: "ExamplesInfo | None") -> float:
        """Return the expected number of masked codes; the first token of each patient is `[CLS]`."""
        from ehr_bert.examples.packed import PACKED

        if info and info.kind != PACKED:
            return patients * (info.max_predictions_per_seq or 0)
        return self.settings.probability * (real_tokens - patients)

    def flops(self, config: ModelConfig) -> float:
        """Return the operations of the transform and of the scores of all tokens, per masked code."""
        return 2 * config.hidden_size**2 + 2 * config.hidden_size * (config.vocab_size or 0)

    def loss_with_gradients(
        self, model: "PretrainingModel", outputs: "tf.Tensor", batch: "BatchTensors", scale: "tf.Tensor"
    ) -> LossWithGradients:
        """Return the cross-entropy over the vocabulary; the gradients are computed with the scores."""
        from ehr_bert.objectives.vocabulary_loss import vocabulary_loss

        table, bias = model.output_table()
        weights = batch["masked_weights"] * scale
        result = vocabulary_loss(outputs, table.value, bias.value, batch["masked_ids"], weights)
        return LossWithGradients(
            {"loss": result.loss / scale, "correct": result.correct / scale},
            result.d_vectors,
            [(table, result.d_table), (bias, result.d_bias)],
        )

    def evaluation_sums(
        self, model: "PretrainingModel", outputs: "tf.Tensor", batch: "BatchTensors"
    ) -> TensorsByName:
        """Return the sums of the metrics, and how often each code was masked, `[V]`."""
        import tensorflow as tf

        from ehr_bert.objectives.vocabulary_loss import vocabulary_ranks

        table, bias = (variable.value for variable in model.output_table())
        ids, weights = batch["masked_ids"], batch["masked_weights"]  # [M]
        losses, ranks = vocabulary_ranks(outputs, table, bias, ids)  # [M]

        def up_to(rank: int) -> "tf.Tensor":
            return tf.reduce_sum(weights * tf.cast(ranks < rank, tf.float32))

        is_masked = tf.cast(weights > 0, tf.float32)
        return {
            "loss": tf.reduce_sum(weights * losses),
            "correct": up_to(1),
            **{f"top_{rank}": up_to(rank) for rank in TOP_RANKS},
            "masked": tf.math.unsorted_segment_sum(is_masked, ids, table.shape[0]),
        }

    def metrics(self, sums: Mapping[str, Any], predictions: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Return loss in nats, accuracy, top-k accuracies and perplexity; in training, the first two."""
        values = super().metrics(sums, predictions)
        if "masked" not in sums:
            return values
        count = max(sums["count"], 1)
        values |= {f"accuracy_top_{rank}": float(sums[f"top_{rank}"] / count) for rank in TOP_RANKS}
        return values | {"perplexity": _perplexity(values["loss"])}

    def baseline(
        self, sums: Mapping[str, Any], predictions: Mapping[str, np.ndarray], occurrences: np.ndarray
    ) -> dict[str, float]:
        """Return the metrics of `code_frequencies`."""
        return code_frequencies(sums["masked"].astype(np.int64), occurrences)


def code_frequencies(masked: np.ndarray, occurrences: np.ndarray) -> dict[str, float]:
    """Return the metrics of a baseline that predicts codes by their training frequency.

    Args:
        masked: How often each code was masked, int64 `[V]`.
        occurrences: Occurrences of each code in the training split, int64 `[V]`. One is added to each
            (Laplace smoothing), since the softmax of a model gives each code a share too. If all are 0,
            `masked` itself is used: no other code frequencies give a lower loss.
    """
    counts = occurrences + 1 if occurrences.any() else masked
    shares = counts[masked > 0] / counts.sum()
    total = max(masked.sum(), 1)
    ranked = masked[np.argsort(-counts, kind="stable")]  # ties by id

    def up_to(rank: int) -> float:
        return float(ranked[:rank].sum() / total)

    loss = float(-(masked[masked > 0] * np.log(shares)).sum() / total)
    return {
        "loss": loss,
        "accuracy": up_to(1),
        **{f"accuracy_top_{rank}": up_to(rank) for rank in TOP_RANKS},
        "perplexity": _perplexity(loss),
    }


def _perplexity(loss: float) -> float:
    """Return the number of equally likely codes with the same cross-entropy."""
    return math.exp(min(loss, 700.0))
