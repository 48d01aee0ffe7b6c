"""Neural contenders: heads on a pretrained, a frozen, an untrained BERT, and on codes from scratch."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from enum import StrEnum
from typing import Any

import numpy as np
import torch

from ehr_bert.prediction.contenders.logistic_regression import Penalized, search_penalty
from ehr_bert.prediction.contenders.problem import Problem, Scores, Sides
from ehr_bert.prediction.contenders.search import Found, candidates, search
from ehr_bert.prediction.encoders import HistoryEncoder, code_embedding, untrained_bert
from ehr_bert.prediction.fitting import Fitted, fit, predict_logits
from ehr_bert.prediction.frozen import FrozenVectors, PredictorInputs
from ehr_bert.prediction.heads import ClsHead, Head, MeanHead
from ehr_bert.prediction.optimization import FitSettings
from ehr_bert.prediction.predictor import Predictor, make_predictor
from ehr_bert.prediction.reading import Encoded, ModelVocabulary, encode


class Start(StrEnum):
    """What the head stands on when the fit begins."""

    PRETRAINED = "pretrained"
    FROZEN = "frozen"
    UNTRAINED = "untrained"
    SCRATCH = "scratch"


def fit_neural(
    problem: Problem, sides: Sides, seed: int, start: Start, head: str
) -> tuple[Predictor, Scores]:
    """Fits a head, then what it stands on unless that is frozen, each with a few learning rates.

    Where the second fit makes nothing better on validation, what it stands on stays as it was.

    Args:
        problem: The task.
        sides: Which examples are for what.
        seed: Decides new weights, order and dropout.
        start: What the head stands on.
        head: Its name.

    Returns:
        The predictor that was best on validation, and its scores; `chosen` tells the learning rate, the
        AUROC that each reached, after how many updates the weights were best, the same of the `head` alone
        (or, of a linear one, the penalty of the logistic regression that it is), and whether more than that
        was `kept`.
    """
    tuning = problem.tuning
    encoder, inputs = _standing_on(problem, sides, seed, start)
    predictor, chosen, score = make_predictor(encoder, head, seed=seed), dict[str, Any](), -np.inf
    if start is Start.FROZEN or (start is Start.PRETRAINED and tuning.fit.head_first):
        predictor, chosen["head"], score = _head_alone(
            problem, sides, seed, predictor, problem.frozen_vectors(head)
        )
    if start is not Start.FROZEN:
        rates = {
            Start.PRETRAINED: tuning.learning_rates,
            Start.UNTRAINED: tuning.untrained_learning_rates,
            Start.SCRATCH: tuning.scratch_learning_rates,
        }[start]
        found = _searched(problem, sides, seed, predictor, inputs, rates, frozen=False)
        chosen |= _told(found, rates) | {"kept": found.fitted.score > score}
        predictor = found.predictor if chosen["kept"] else predictor
    stayed = start is Start.FROZEN or not chosen["kept"]
    read: PredictorInputs = problem.frozen_vectors(head) if stayed else inputs

    def scored(rows: np.ndarray) -> np.ndarray:
        return predict_logits(predictor, read.take(rows), tuning.fit.batch_tokens)[:, 0].astype(np.float64)

    return predictor, Scores(scored(sides.valid), scored(sides.test), chosen)


def _standing_on(problem: Problem, sides: Sides, seed: int, start: Start) -> tuple[HistoryEncoder, Encoded]:
    """What the head stands on, and all histories as that reads them."""
    if start is Start.SCRATCH:
        vocabulary = ModelVocabulary.of_codes(problem.cohort.histories.take(sides.train))
        return code_embedding(len(vocabulary), seed), encode(problem.cohort.histories, vocabulary)
    if start is Start.UNTRAINED:
        return untrained_bert(problem.export, seed), problem.encoded
    return problem.encoder, problem.encoded


def _head_alone(
    problem: Problem, sides: Sides, seed: int, predictor: Predictor, vectors: FrozenVectors
) -> tuple[Predictor, dict[str, Any], float]:
    """Fits the head on what the encoder as it is gives it; tells the choice, and its AUROC on validation."""
    if vectors.by_visit:
        rates = problem.tuning.head_learning_rates
        found = _searched(problem, sides, seed, predictor, vectors, rates, frozen=True)
        return found.predictor, _told(found, rates), found.fitted.score
    probe = _set_to_probe(predictor.head, vectors.vectors, problem.labels, sides)
    return predictor, {"inverse_penalty": probe.inverse_penalty}, probe.score


def _set_to_probe(head: Head, vectors: np.ndarray, labels: np.ndarray, sides: Sides) -> Penalized:
    """Sets a linear head to the logistic regression on its vectors `[N, H]`, whose penalty is chosen too."""
    assert isinstance(head, ClsHead | MeanHead)
    mean, deviation = vectors[sides.train].mean(axis=0), vectors[sides.train].std(axis=0)
    deviation[deviation == 0] = 1
    found = search_penalty((vectors - mean) / deviation, labels, sides)
    weight = found.model.coef_[0] / deviation  # [H]
    with torch.no_grad():
        head.linear.weight.copy_(torch.as_tensor(weight)[None])
        head.linear.bias.fill_(float(found.model.intercept_[0] - weight @ mean))
    return found


def _searched(
    problem: Problem,
    sides: Sides,
    seed: int,
    start: Predictor,
    inputs: PredictorInputs,
    rates: Sequence[float],
    frozen: bool,
) -> Found:
    """The best of a few learning rates, each from a copy of the same predictor."""
    train, valid, labels = inputs.take(sides.train), inputs.take(sides.valid), problem.labels

    def copied() -> Predictor:
        encoder = start.encoder if frozen else deepcopy(start.encoder)
        return Predictor(encoder, deepcopy(start.head))

    def fitted_by(predictor: Predictor, tried: FitSettings) -> Fitted:
        return fit(predictor, train, labels[sides.train], valid, labels[sides.valid], tried, seed)

    settings = replace(problem.tuning.fit, frozen=frozen, head_first=False)
    return search(copied, fitted_by, candidates(settings, rates))


def _told(found: Found, rates: Sequence[float]) -> dict[str, Any]:
    return {
        "learning_rate": found.settings.learning_rate,
        "tried": dict(zip(map(str, rates), found.tried, strict=True)),
        "best_update": found.fitted.best_update,
        "updates": found.fitted.updates,
    }
