"""Prediction heads on a BERT: untrained, frozen or fine-tuned. Each family has one member per head."""

from collections.abc import Mapping

from ehr_bert.prediction.contenders.contender import Contender
from ehr_bert.prediction.contenders.neural import Start, fit_neural
from ehr_bert.prediction.contenders.problem import Problem, Scores, SplitRows


def untrained_bert_contender(head: str) -> Contender:
    """Return a BERT of the same shape as the pretrained one, with random weights, trained as a whole."""
    return _on_bert(Start.UNTRAINED, head)


def frozen_bert_contender(head: str) -> Contender:
    """Return a head on the frozen pretrained BERT."""
    return _on_bert(Start.FROZEN, head)


def pretrained_bert_contender(head: str) -> Contender:
    """Return the pretrained BERT, fine-tuned as a whole."""
    return _on_bert(Start.PRETRAINED, head)


def _on_bert(start: Start, head: str) -> Contender:
    def fit(problem: Problem, split_rows: SplitRows, seed: int, scores: Mapping[str, Scores]) -> Scores:
        return fit_neural(problem, split_rows, seed, start, head)[1]

    return Contender(fit, is_baseline=start is Start.UNTRAINED, reads_export=True)
