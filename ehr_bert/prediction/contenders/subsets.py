"""Nested subsets of the training patients, the same for every model."""

import numpy as np


def training_order(patients: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """The patients in the order in which they are trained on: the first n make the subset of size n.

    Those with an outcome are spread evenly among the others, so that every subset has about the share of the
    whole, and two patients have both where there are both.

    Args:
        patients: Whose each training example is: int64 `[M]`, from 0 on, each number taken.
        labels: 0 or 1, `[M]`.
        seed: Another seed, another order.

    Returns:
        int64 `[P]`.
    """
    random = np.random.default_rng(seed)
    shuffled = random.permutation(patients.max(initial=-1) + 1)
    is_case = np.bincount(patients, labels, minlength=len(shuffled))[shuffled] > 0
    place = np.empty(len(shuffled))
    for of_group in (is_case, ~is_case):
        place[of_group] = np.arange(of_group.sum()) / max(1, of_group.sum())
    return shuffled[np.lexsort((~is_case, place))]


def subset(patients: np.ndarray, order: np.ndarray, size: int | None) -> np.ndarray:
    """The examples of the first patients of an order, as rows in rising order.

    Args:
        patients: Whose each training example is: int64 `[M]`.
        order: `training_order`: `[P]`.
        size: Patients; all of them if None.

    Returns:
        int64, places among the `M` examples.
    """
    return np.flatnonzero(np.isin(patients, order[:size]))
