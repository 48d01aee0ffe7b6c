"""Gradient-boosted trees on bags of codes, by LightGBM, chosen on the validation split."""

import lightgbm
import numpy as np
from scipy import sparse

from ehr_bert.prediction.contenders.problem import Scores, Sides

CANDIDATES = ({"num_leaves": 4, "min_data_in_leaf": 5}, {"num_leaves": 16, "min_data_in_leaf": 20})
"""Trees to choose from; how many of them, early stopping decides."""

_MOST_TREES = 1000
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


def fit_boosting(features: sparse.csr_array, labels: np.ndarray, sides: Sides, seed: int) -> Scores:
    """Fits one model a candidate, each until its AUROC on validation gets no better, and takes the best.

    Args:
        features: float32 `[N, F]`.
        labels: 0 or 1, `[N]`.
        sides: Which examples are for what.
        seed: Decides which features and examples each tree sees.

    Returns:
        Its scores; `chosen` tells the candidate and the number of `trees`.
    """
    features = sparse.csr_matrix(features)  # LightGBM doesn't know sparse arrays.
    best: tuple[float, dict[str, int], lightgbm.Booster] | None = None
    for candidate in CANDIDATES:
        train, valid = (lightgbm.Dataset(features[rows], labels[rows]) for rows in (sides.train, sides.valid))
        model = lightgbm.train(
            {**_PARAMETERS, **candidate, "seed": seed},
            train,
            _MOST_TREES,
            valid_sets=[valid.set_reference(train)],
            callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False)],
        )
        area = next(iter(model.best_score.values()))["auc"]
        if best is None or area > best[0]:
            best = area, candidate, model
    assert best is not None
    _, candidate, model = best
    return Scores(
        valid=model.predict(features[sides.valid], raw_score=True),
        test=model.predict(features[sides.test], raw_score=True),
        chosen={**candidate, "trees": model.best_iteration, "features": features.shape[1]},
    )
