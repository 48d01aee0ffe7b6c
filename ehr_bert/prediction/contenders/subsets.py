"""Nested subsets of the training patients, the same for every contender."""

import numpy as np


def training_order(patients: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Return the patients in the order in which training subsets include them: the first n are the subset of
    size n.

    Cases are spread evenly among the controls, so that every subset has about the prevalence of the whole,
    and a subset of two patients has one case and one control if there are both.

    Args:
        patients: Patient number of each training example, int64: from 0, without gaps.
        labels: 0 or 1 for each training example. A patient with a label of 1 is a case.
        seed: Seed of the order.

    Returns:
        int64, one number per patient.
    """
    random = np.random.default_rng(seed)
    shuffled = random.permutation(patients.max(initial=-1) + 1)
    is_case = np.bincount(patients, labels, minlength=len(shuffled))[shuffled] > 0
    position = np.empty(len(shuffled))
    for is_member in (is_case, ~is_case):
        position[is_member] = np.arange(is_member.sum()) / max(1, is_member.sum())
    return shuffled[np.lexsort((~is_case, position))]


def subset(patients: np.ndarray, order: np.ndarray, size: int | None) -> np.ndarray:
    """Return the rows of the examples of the first patients of an order, ascending.

    Args:
        patients: Patient number of each training example: int64.
        order: The result of `training_order`.
        size: Number of patients; all if None.

    Returns:
        int64, rows among the training examples.
    """
    return np.flatnonzero(np.isin(patients, order[:size]))
