"""Bags of codes: histories as rows of a sparse matrix, for models that ignore the order of the visits."""

import numpy as np
from scipy import sparse

from ehr_bert.cohorts.cohort import Cohort, Histories
from ehr_bert.schemas import is_context


def visit_counts(histories: Histories) -> sparse.csr_array:
    """Count the visits of each history with each code. Context tokens are not codes; their columns are empty.

    Args:
        histories: `N` histories with `U` distinct codes.

    Returns:
        float32 `[N, U]`.
    """
    is_code = np.array([not is_context(code) for code in histories.vocabulary], bool)[histories.codes]
    # Indices have 32 bits, since some estimators do not accept 64.
    indices = (histories.example[is_code].astype(np.int32), histories.codes[is_code])
    shape = len(histories), len(histories.vocabulary)
    return sparse.coo_array((np.ones(len(indices[0]), np.float32), indices), shape).tocsr()


def presence(counts: sparse.csr_array, train: np.ndarray) -> sparse.csr_array:
    """Return 1 for each code of a history: float32 `[N, F]`, with one column per code of the training
    examples.

    Args:
        counts: The result of `visit_counts`: `[N, U]`.
        train: Rows of the training examples: int64.
    """
    features = _training_codes(counts, train)
    features.data = np.ones_like(features.data)
    return features


def log_counts(counts: sparse.csr_array, train: np.ndarray) -> sparse.csr_array:
    """Return `log(1 + n)` for each code in `n` visits of a history; otherwise as `presence`."""
    return _training_codes(counts, train).log1p()


def demographics(cohort: Cohort, train: np.ndarray) -> sparse.csr_array:
    """Return sex and age at the index date.

    Age is standardised by the mean and standard deviation of the training examples, and is given with its
    square. Both are 0 if the age is unknown, which an indicator column marks. There is one column per sex
    among the training examples.

    Args:
        cohort: `N` examples.
        train: Rows of the training examples: int64.

    Returns:
        float32 `[N, F]`, without columns that are constant over the training examples.
    """
    known = ~np.isnan(cohort.age)
    age = np.zeros(len(cohort))
    training_ages = cohort.age[train][known[train]]
    if len(training_ages):
        age[known] = (cohort.age[known] - training_ages.mean()) / (training_ages.std() or 1)
    sexes = sorted({sex for sex in cohort.sex[train] if sex is not None})
    columns = np.stack([age, age**2, ~known, *(cohort.sex == sex for sex in sexes)], axis=1)  # [N, 3 + sexes]
    varies = np.ptp(columns[train], axis=0) > 0
    return sparse.csr_array(columns[:, varies].astype(np.float32))


def with_demographics(features: sparse.csr_array, cohort: Cohort, train: np.ndarray) -> sparse.csr_array:
    """Append the columns of `demographics` to features `[N, F]`."""
    return sparse.hstack([features, demographics(cohort, train)], format="csr")


def _training_codes(counts: sparse.csr_array, train: np.ndarray) -> sparse.csr_array:
    """Return the columns of the codes that occur in the training examples: `[N, F]`."""
    return counts[:, np.unique(counts[train].indices)]
