"""Bags of codes: histories as rows of a sparse matrix, for models that know nothing of order."""

import numpy as np
from scipy import sparse

from ehr_bert.cohorts.cohort import Cohort, Histories
from ehr_bert.schemas import is_context


def visit_counts(histories: Histories) -> sparse.csr_array:
    """In how many visits of each history each code stands; context tokens are no codes, and never do.

    Args:
        histories: `N` examples of `K` distinct codes.

    Returns:
        float32 `[N, K]`.
    """
    is_code = np.array([not is_context(code) for code in histories.vocabulary], bool)[histories.codes]
    places = (
        histories.example[is_code].astype(np.int32),
        histories.codes[is_code],
    )  # 64 bits aren't taken by all
    shape = len(histories), len(histories.vocabulary)
    return sparse.coo_array((np.ones(len(places[0]), np.float32), places), shape).tocsr()


def presence(counts: sparse.csr_array, train: np.ndarray) -> sparse.csr_array:
    """1 where a code stands in a history: float32 `[N, F]`, a column a code of the training examples.

    Args:
        counts: `visit_counts`: `[N, K]`.
        train: Rows of the training examples: int64 `[M]`.
    """
    found = _seen(counts, train)
    found.data = np.ones_like(found.data)
    return found


def log_counts(counts: sparse.csr_array, train: np.ndarray) -> sparse.csr_array:
    """`log(1 + n)` where a code stands in `n` visits; else as `presence`."""
    return _seen(counts, train).log1p()


def demographics(cohort: Cohort, train: np.ndarray) -> sparse.csr_array:
    """Sex and age at the index date, as far as the training examples know them.

    Age is told as its distance from the mean of the training examples, in their standard deviations, and as
    the square of that; both are 0 where it isn't known, which a column of its own tells.

    Args:
        cohort: `N` examples.
        train: As in `presence`.

    Returns:
        float32 `[N, D]`: no column is the same for all training examples.
    """
    known = ~np.isnan(cohort.age)
    age = np.zeros(len(cohort))
    seen = cohort.age[train][known[train]]
    if len(seen):
        age[known] = (cohort.age[known] - seen.mean()) / (seen.std() or 1)
    sexes = sorted({sex for sex in cohort.sex[train] if sex is not None})
    columns = np.stack([age, age**2, ~known, *(cohort.sex == sex for sex in sexes)], axis=1)  # [N, 3 + sexes]
    varies = np.ptp(columns[train], axis=0) > 0
    return sparse.csr_array(columns[:, varies].astype(np.float32))


def _seen(counts: sparse.csr_array, train: np.ndarray) -> sparse.csr_array:
    """The columns of the codes that a training example has: `[N, F]`."""
    return counts[:, np.unique(counts[train].indices)]
