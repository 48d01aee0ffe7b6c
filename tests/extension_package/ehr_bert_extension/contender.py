"""A contender whose risk rises with the number of codes in a history."""

from collections.abc import Mapping

import numpy as np

from ehr_bert.prediction.contenders.contender import Contender
from ehr_bert.prediction.contenders.problem import Problem, Scores, SplitRows


def _fit(problem: Problem, split_rows: SplitRows, seed: int, scores: Mapping[str, Scores]) -> Scores:
    counts = np.bincount(problem.cohort.histories.example, minlength=len(problem.labels))
    logits = np.log1p(counts) - np.log1p(counts[split_rows.train].mean())
    return Scores(valid=logits[split_rows.valid], test=logits[split_rows.test], chosen={})


NUMBER_OF_CODES = Contender(_fit)
