"""Recurrent networks over the visits of a history, trained from scratch."""

from collections.abc import Mapping

from ehr_bert.prediction.contenders.contender import Contender
from ehr_bert.prediction.contenders.neural import Start, fit_neural
from ehr_bert.prediction.contenders.problem import Problem, Scores, SplitRows


def _from_scratch(head: str) -> Contender:
    """Return the contender that trains code embeddings and a head together."""

    def fit(problem: Problem, split_rows: SplitRows, seed: int, scores: Mapping[str, Scores]) -> Scores:
        return fit_neural(problem, split_rows, seed, Start.SCRATCH, head)[1]

    return Contender(fit)


GRU = _from_scratch("gru")
"""A GRU."""

BIGRU = _from_scratch("bigru")
"""A bidirectional GRU."""

RETAIN = _from_scratch("retain")
"""RETAIN (Choi et al. 2016)."""
