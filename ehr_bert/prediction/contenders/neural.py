"""Fitting of a head on a pretrained, frozen or untrained BERT, or on code embeddings from scratch."""

from collections.abc import Sequence
from copy import deepcopy
from enum import StrEnum
from typing import Any

import numpy as np
import torch

from ehr_bert.prediction.contenders.logistic_regression import Penalized, search_penalty
from ehr_bert.prediction.contenders.problem import Problem, Scores, SplitRows
from ehr_bert.prediction.contenders.search import SearchResult, candidates, search
from ehr_bert.prediction.encoders import HistoryEncoder, code_embedding, untrained_bert
from ehr_bert.prediction.fitting import FitResult, fit, predict_logits
from ehr_bert.prediction.frozen import FrozenVectors, PredictorInputs
from ehr_bert.prediction.heads.linear import LinearHead
from ehr_bert.prediction.optimization import FitSettings
from ehr_bert.prediction.predictor import Predictor, make_predictor
from ehr_bert.prediction.reading import Encoded, ModelVocabulary, encode


class Start(StrEnum):
    """The encoder below the head when the fit begins, and whether it is fitted."""

    PRETRAINED = "pretrained"
    FROZEN = "frozen"
    UNTRAINED = "untrained"
    SCRATCH = "scratch"


def fit_neural(
    problem: Problem, split_rows: SplitRows, seed: int, start: Start, head: str
) -> tuple[Predictor, Scores]:
    """Fit a head, then the encoder with it unless that is frozen, each with a search over learning rates.

    If the second step does not improve the validation AUROC, the encoder is left unchanged.

    Args:
        problem: The task.
        split_rows: Rows of the training, validation and test examples.
        seed: Seed of new weights, of the order and of dropout.
        start: The encoder below the head.
        head: Name of the head.

    Returns:
        The predictor with the best validation AUROC, and its scores. `chosen` has the learning rate, the
        AUROC of each candidate, the update after which the weights were best, and whether the second step was
        `kept`. Under `head` it has the same for the first step, or the penalty of the logistic regression if
        the head is linear.
    """
    tuning = problem.tuning
    encoder, inputs = _encoder_and_inputs(problem, split_rows, seed, start)
    predictor, chosen, score = make_predictor(encoder, head, seed=seed), dict[str, Any](), -np.inf
    if start is Start.FROZEN or (start is Start.PRETRAINED and tuning.fit.head_first):
        predictor, chosen["head"], score = _fit_head(
            problem, split_rows, seed, predictor, problem.frozen_vectors(head)
        )
    if start is not Start.FROZEN:
        rates = {
            Start.PRETRAINED: tuning.learning_rates,
            Start.UNTRAINED: tuning.untrained_learning_rates,
            Start.SCRATCH: tuning.scratch_learning_rates,
        }[start]
        result = _search_rates(problem, split_rows, seed, predictor, inputs, rates, frozen=False)
        chosen |= _chosen(result, rates) | {"kept": result.fitted.score > score}
        predictor = result.predictor if chosen["kept"] else predictor
    encoder_unchanged = start is Start.FROZEN or not chosen["kept"]
    scored_inputs: PredictorInputs = problem.frozen_vectors(head) if encoder_unchanged else inputs

    def logits(rows: np.ndarray) -> np.ndarray:
        selected = scored_inputs.take(rows)
        return predict_logits(predictor, selected, tuning.fit.batch_tokens)[:, 0].astype(np.float64)

    return predictor, Scores(logits(split_rows.valid), logits(split_rows.test), chosen)


def _encoder_and_inputs(
    problem: Problem, split_rows: SplitRows, seed: int, start: Start
) -> tuple[HistoryEncoder, Encoded]:
    """Return the encoder below the head, and all histories encoded for it."""
    if start is Start.SCRATCH:
        vocabulary = ModelVocabulary.of_codes(problem.cohort.histories.take(split_rows.train))
        return code_embedding(len(vocabulary), seed), encode(problem.cohort.histories, vocabulary)
    if start is Start.UNTRAINED:
        return untrained_bert(problem.export, seed), problem.encoded
    return problem.encoder, problem.encoded


def _fit_head(
    problem: Problem, split_rows: SplitRows, seed: int, predictor: Predictor, vectors: FrozenVectors
) -> tuple[Predictor, dict[str, Any], float]:
    """Fit the head on frozen vectors. Return the predictor, its settings, and the validation AUROC."""
    if not isinstance(predictor.head, LinearHead):
        rates = problem.tuning.head_learning_rates
        result = _search_rates(problem, split_rows, seed, predictor, vectors, rates, frozen=True)
        return result.predictor, _chosen(result, rates), result.fitted.score
    probe = _set_to_probe(predictor.head, vectors.vectors, problem.labels, split_rows)
    return predictor, {"inverse_penalty": probe.inverse_penalty}, probe.score


def _set_to_probe(
    head: LinearHead, vectors: np.ndarray, labels: np.ndarray, split_rows: SplitRows
) -> Penalized:
    """Set a linear head to the logistic regression on its vectors, `[N, H]`, with the best penalty."""
    mean, deviation = vectors[split_rows.train].mean(axis=0), vectors[split_rows.train].std(axis=0)
    deviation[deviation == 0] = 1
    probe = search_penalty((vectors - mean) / deviation, labels, split_rows)
    weight = probe.model.coef_[0] / deviation  # [H]
    with torch.no_grad():
        head.linear.weight.copy_(torch.as_tensor(weight)[None])
        head.linear.bias.fill_(float(probe.model.intercept_[0] - weight @ mean))
    return probe


def _search_rates(
    problem: Problem,
    split_rows: SplitRows,
    seed: int,
    start: Predictor,
    inputs: PredictorInputs,
    rates: Sequence[float],
    frozen: bool,
) -> SearchResult:
    """Fit a copy of the same predictor with each learning rate, and return the best."""
    train, valid, labels = inputs.take(split_rows.train), inputs.take(split_rows.valid), problem.labels

    def copy() -> Predictor:
        encoder = start.encoder if frozen else deepcopy(start.encoder)
        return Predictor(encoder, deepcopy(start.head))

    def fit_candidate(predictor: Predictor, settings: FitSettings) -> FitResult:
        return fit(
            predictor,
            train,
            labels[split_rows.train],
            valid,
            labels[split_rows.valid],
            settings,
            seed,
            frozen,
        )

    return search(copy, fit_candidate, candidates(problem.tuning.fit, rates))


def _chosen(result: SearchResult, rates: Sequence[float]) -> dict[str, Any]:
    """Describe a search for the record of the run."""
    return {
        "learning_rate": result.settings.learning_rate,
        "tried": dict(zip(map(str, rates), result.tried, strict=True)),
        "best_update": result.fitted.best_update,
        "updates": result.fitted.updates,
    }
