"""A contender whose risk rises with the number of codes in a history."""

from collections.abc import Mapping

import numpy as np

from ehr_bert.prediction.contenders.contender import Contender
from ehr_bert.prediction.contenders.problem import Problem, Scores, Sides


def _fit(problem: Problem, sides: Sides, seed: int, scores: Mapping[str, Scores]) -> Scores:
    counts = np.bincount(problem.cohort.histories.example, minlength=len(problem.labels))
    logits = np.log1p(counts) - np.log1p(counts[sides.train].mean())
    return Scores(valid=logits[sides.valid], test=logits[sides.test], chosen={})


NUMBER_OF_CODES = Contender(_fit)
