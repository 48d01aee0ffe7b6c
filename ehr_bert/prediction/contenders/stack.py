"""Stacking of a fine-tuned BERT and a logistic regression on codes, by a regression of both logits."""

from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression

from ehr_bert.metrics.summary import auroc_of
from ehr_bert.prediction.contenders.contender import Contender
from ehr_bert.prediction.contenders.problem import Problem, Scores, SplitRows

LINEAR = ("logistic_regression", "logistic_regression_counts", "logistic_regression_demographics")
"""Contenders of which the best on validation is stacked on the BERT."""

_STRENGTH = 1.0
"""Inverse strength of the squared penalty on the two weights, which shrinks them if there are few cases."""


def fit_stack(neural: Scores, linear: Sequence[Scores], valid_labels: np.ndarray) -> Scores:
    """Weight two logits by a logistic regression with two coefficients.

    It is fitted on the validation split, on which neither model was trained, although both were selected
    there.

    Args:
        neural: Scores of the fine-tuned BERT.
        linear: Scores of logistic regressions, of which the one with the highest validation AUROC is used.
        valid_labels: 0 or 1 for each validation example.

    Returns:
        The scores of the stack; `chosen` has both weights, for logits in standard deviations.
    """
    best = max(linear, key=lambda scores: auroc_of(valid_labels, scores.valid))
    parts = (neural, best)
    means = [part.valid.mean() for part in parts]
    deviations = [part.valid.std() or 1.0 for part in parts]

    def features(logits: Sequence[np.ndarray]) -> np.ndarray:
        """Standardise both logits: `[N, 2]`."""
        return np.stack(
            [
                (values - mean) / deviation
                for values, mean, deviation in zip(logits, means, deviations, strict=True)
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


def stack_contender(head: str) -> Contender:
    """Return the stack of the fine-tuned BERT with a head and of logistic regression."""
    bert = f"pretrained_{head}"

    def fit(problem: Problem, split_rows: SplitRows, seed: int, scores: Mapping[str, Scores]) -> Scores:
        return fit_stack(scores[bert], [scores[name] for name in LINEAR], problem.labels[split_rows.valid])

    return Contender(fit, needs=(*LINEAR, bert), is_baseline=False)
