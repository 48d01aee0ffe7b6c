"""Gradient-boosted trees on bags of codes, by LightGBM."""

from collections.abc import Mapping

import lightgbm
import numpy as np
from scipy import sparse

from ehr_bert.prediction.contenders.bag_of_codes import log_counts, with_demographics
from ehr_bert.prediction.contenders.contender import Contender
from ehr_bert.prediction.contenders.problem import Problem, Scores, SplitRows

CANDIDATES = ({"num_leaves": 4, "min_data_in_leaf": 5}, {"num_leaves": 16, "min_data_in_leaf": 20})
"""Candidates of the shape of the trees. Early stopping decides their number."""

_MAX_TREES = 1000
_PATIENCE = 50
_PARAMETERS = {
    "objective": "binary",
    "metric": "auc",
    "learning_rate": 0.05,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 1.0,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}


def fit_boosting(features: sparse.csr_array, labels: np.ndarray, split_rows: SplitRows, seed: int) -> Scores:
    """Fit one model per candidate with early stopping, and return the scores of the best on validation.

    Args:
        features: float32 `[N, F]`.
        labels: 0 or 1, `[N]`.
        split_rows: Rows of the training, validation and test examples.
        seed: Seed of the sampling of features and examples.

    Returns:
        The scores; `chosen` has the candidate, the number of `trees` and the number of `features`.
    """
    features = sparse.csr_matrix(features)  # LightGBM does not accept sparse arrays.
    best: tuple[float, dict[str, int], lightgbm.Booster] | None = None
    for candidate in CANDIDATES:
        train, valid = (
            lightgbm.Dataset(features[rows], labels[rows]) for rows in (split_rows.train, split_rows.valid)
        )
        model = lightgbm.train(
            {**_PARAMETERS, **candidate, "seed": seed},
            train,
            _MAX_TREES,
            valid_sets=[valid.set_reference(train)],
            callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False)],
        )
        auroc = next(iter(model.best_score.values()))["auc"]
        if best is None or auroc > best[0]:
            best = auroc, candidate, model
    assert best is not None
    _, candidate, model = best
    return Scores(
        valid=model.predict(features[split_rows.valid], raw_score=True),
        test=model.predict(features[split_rows.test], raw_score=True),
        chosen={**candidate, "trees": model.best_iteration, "features": features.shape[1]},
    )


def _fit(problem: Problem, split_rows: SplitRows, seed: int, scores: Mapping[str, Scores]) -> Scores:
    counts = log_counts(problem.visit_counts, split_rows.train)
    features = with_demographics(counts, problem.cohort, split_rows.train)
    return fit_boosting(features, problem.labels, split_rows, seed)


BOOSTING = Contender(_fit)
"""Gradient-boosted trees on the number of visits with each code, sex and age."""
