"""Logistic regression, its penalty chosen on the validation split."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from ehr_bert.metrics.summary import auroc_of
from ehr_bert.prediction.contenders.problem import Scores, Sides

STRENGTHS = tuple(float(f"{each:.1g}") for each in 10 ** np.arange(-4, 1.1, 0.5))
"""Inverse strengths of the squared penalty to choose from: 0.0001, 0.0003, ..., 10."""

FeatureMatrix: TypeAlias = sparse.csr_array | np.ndarray

_STEPS = 2000


@dataclass(frozen=True)
class Penalized:
    """The logistic regression whose penalty was best on validation.

    Attributes:
        model: The model.
        inverse_penalty: One of `STRENGTHS`.
        score: Its AUROC on validation.
    """

    model: LogisticRegression
    inverse_penalty: float
    score: float


def search_penalty(features: FeatureMatrix, labels: np.ndarray, sides: Sides) -> Penalized:
    """Fits one model a strength, and takes that of the highest AUROC on validation, the smallest of equals.

    Args:
        features: float32 `[N, F]`.
        labels: 0 or 1, `[N]`.
        sides: Which examples are for what.
    """
    train, valid = features[sides.train], features[sides.valid]
    found = []
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=_STEPS).fit(train, labels[sides.train])
        score = auroc_of(labels[sides.valid], model.predict_proba(valid)[:, 1])
        found.append(Penalized(model, strength, score))
    return max(found, key=lambda each: each.score)


def fit_logistic_regression(features: FeatureMatrix, labels: np.ndarray, sides: Sides) -> Scores:
    """The scores of `search_penalty`; `chosen` tells `inverse_penalty` and the number of `features`."""
    found = search_penalty(features, labels, sides)
    return Scores(
        valid=found.model.decision_function(features[sides.valid]),
        test=found.model.decision_function(features[sides.test]),
        chosen={"inverse_penalty": found.inverse_penalty, "features": features.shape[1]},
    )
