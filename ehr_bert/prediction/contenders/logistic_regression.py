"""Logistic regression with a penalty chosen on the validation split."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from ehr_bert.metrics.summary import auroc_of
from ehr_bert.prediction.contenders.bag_of_codes import log_counts, presence, with_demographics
from ehr_bert.prediction.contenders.contender import Contender
from ehr_bert.prediction.contenders.problem import Problem, Scores, SplitRows

STRENGTHS = tuple(float(f"{strength:.1g}") for strength in 10 ** np.arange(-4, 1.1, 0.5))
"""Candidates of the inverse strength of the squared penalty: 0.0001, 0.0003, ..., 10."""

FeatureMatrix: TypeAlias = sparse.csr_array | np.ndarray

_MAX_ITERATIONS = 2000


@dataclass(frozen=True)
class Penalized:
    """The logistic regression with the best penalty.

    Attributes:
        model: The model.
        inverse_penalty: One of `STRENGTHS`.
        score: AUROC on the validation split.
    """

    model: LogisticRegression
    inverse_penalty: float
    score: float


def search_penalty(features: FeatureMatrix, labels: np.ndarray, split_rows: SplitRows) -> Penalized:
    """Fit one model per strength and return the one with the highest validation AUROC, the first of equals.

    Args:
        features: float32 `[N, F]`.
        labels: 0 or 1, `[N]`.
        split_rows: Rows of the training and validation examples.
    """
    train, valid = features[split_rows.train], features[split_rows.valid]
    candidates = []
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=_MAX_ITERATIONS).fit(train, labels[split_rows.train])
        score = auroc_of(labels[split_rows.valid], model.predict_proba(valid)[:, 1])
        candidates.append(Penalized(model, strength, score))
    return max(candidates, key=lambda candidate: candidate.score)


def fit_logistic_regression(features: FeatureMatrix, labels: np.ndarray, split_rows: SplitRows) -> Scores:
    """Return the scores of `search_penalty`; `chosen` has `inverse_penalty` and the number of `features`."""
    best = search_penalty(features, labels, split_rows)
    return Scores(
        valid=best.model.decision_function(features[split_rows.valid]),
        test=best.model.decision_function(features[split_rows.test]),
        chosen={"inverse_penalty": best.inverse_penalty, "features": features.shape[1]},
    )


def _on_features(features_of: Callable[[Problem, SplitRows], sparse.csr_array]) -> Contender:
    """Return the contender that fits a logistic regression to some features."""

    def fit(problem: Problem, split_rows: SplitRows, seed: int, scores: Mapping[str, Scores]) -> Scores:
        return fit_logistic_regression(features_of(problem, split_rows), problem.labels, split_rows)

    return Contender(fit)


def _presence(problem: Problem, split_rows: SplitRows) -> sparse.csr_array:
    return presence(problem.visit_counts, split_rows.train)


def _log_counts(problem: Problem, split_rows: SplitRows) -> sparse.csr_array:
    return log_counts(problem.visit_counts, split_rows.train)


def _presence_and_demographics(problem: Problem, split_rows: SplitRows) -> sparse.csr_array:
    return with_demographics(_presence(problem, split_rows), problem.cohort, split_rows.train)


ON_PRESENCE = _on_features(_presence)
"""Logistic regression on the presence of codes."""

ON_COUNTS = _on_features(_log_counts)
"""Logistic regression on the number of visits with each code: log(1 + n)."""

WITH_DEMOGRAPHICS = _on_features(_presence_and_demographics)
"""Logistic regression on the presence of codes, sex, age and squared age."""
