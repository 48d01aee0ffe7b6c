"""Uniformisation: the distribution of a continuous-time Markov chain as a mixture of its jump chain.

Source: Jensen, A. (1953). Markoff chains as an aid in the study of Markoff processes. Skandinavisk
Aktuarietidskrift 36, 87-91.
"""

import numpy as np
from scipy.stats import poisson

TOLERANCE = 1e-12
"""Probability of the jumps that are left out."""


def poisson_weights(mean: float) -> np.ndarray:
    """Return the probabilities of 0, 1, ... jumps, up to a remainder of `TOLERANCE`. Their sum is 1.

    Example:
        >>> poisson_weights(0.0).tolist()
        [1.0]
    """
    weights = poisson.pmf(np.arange(1 + int(poisson.isf(TOLERANCE, mean))), mean)
    return weights / weights.sum()
