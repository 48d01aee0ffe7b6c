"""The stack of both: a fine-tuned BERT's logit and that of logistic regression, weighed on validation."""

from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression

from ehr_bert.metrics.summary import auroc_of
from ehr_bert.prediction.contenders.problem import Scores

_STRENGTH = 1.0
"""Of the squared penalty on the two weights, which draws them to 0 where validation has few outcomes."""


def fit_stack(neural: Scores, linear: Sequence[Scores], valid_labels: np.ndarray) -> Scores:
    """Weighs two logits by a logistic regression of two weights.

    It is fitted on the validation split, on which neither model was trained, though both were chosen there.

    Args:
        neural: Those of the fine-tuned BERT.
        linear: Those of logistic regressions; the one of the highest AUROC on validation is taken.
        valid_labels: 0 or 1, `[V]`.

    Returns:
        The stack's scores; `chosen` tells both weights, of logits in standard deviations.
    """
    best = max(linear, key=lambda scores: auroc_of(valid_labels, scores.valid))
    parts = (neural, best)
    means = [part.valid.mean() for part in parts]
    deviations = [part.valid.std() or 1.0 for part in parts]

    def features(sides: Sequence[np.ndarray]) -> np.ndarray:
        """Both logits in standard deviations: `[N, 2]`."""
        return np.stack(
            [
                (side - mean) / deviation
                for side, mean, deviation in zip(sides, means, deviations, strict=True)
            ],
            axis=1,
        )

    valid = features([part.valid for part in parts])
    model = LogisticRegression(C=_STRENGTH).fit(valid, valid_labels)
    return Scores(
        valid=model.decision_function(valid),
        test=model.decision_function(features([part.test for part in parts])),
        chosen=dict(zip(("neural_weight", "linear_weight"), map(float, model.coef_[0]), strict=True)),
    )
