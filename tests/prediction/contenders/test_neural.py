from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from ehr_bert.metrics.summary import auroc_of
from ehr_bert.prediction.contenders.neural import Start, fit_neural
from ehr_bert.prediction.contenders.problem import Problem
from ehr_bert.prediction.contenders.tuning import Tuning
from ehr_bert.prediction.optimization import SearchFitSettings
from tests.prediction.cohorts import cohort

FIT = SearchFitSettings(epochs=1, least_updates=12, evaluate_updates=4, batch_examples=16)
TUNING = Tuning(
    learning_rates=(1e-3, 1e-2),
    head_learning_rates=(1e-2,),
    untrained_learning_rates=(1e-2,),
    scratch_learning_rates=(1e-2,),
    fit=FIT,
)


def problem_of(export, tuning=TUNING, seed=0):
    return Problem.of(cohort(211, seed), "label", export, tuning)


def weights_of(module):
    return {name: weight.clone() for name, weight in module.state_dict().items()}


def same(one, other):
    return all(torch.equal(weight, other[name]) for name, weight in one.items())


@pytest.mark.parametrize("start", Start)
@pytest.mark.parametrize("head", ["mean", "retain"])
def test_scores_are_reproducible(export, start, head):
    problem = problem_of(export)
    split_rows = problem.split_rows(61, 1)
    before = weights_of(problem.encoder)
    _, scores = fit_neural(problem, split_rows, 1, start, head)
    assert same(before, problem.encoder.state_dict())
    assert len(scores.valid) == len(split_rows.valid)
    assert len(scores.test) == len(split_rows.test)
    again = fit_neural(problem_of(export), split_rows, 1, start, head)[1]
    assert np.array_equal(scores.test, again.test)
    assert scores.chosen == again.chosen
    stages = (scores.chosen, scores.chosen.get("head", {}))
    tried = [area for stage in stages for area in stage.get("tried", {}).values()]
    area = auroc_of(problem.labels[split_rows.valid], scores.valid)
    assert area >= max(tried, default=0) - 1e-6


@pytest.mark.parametrize("head", ["cls", "mean"])
def test_a_linear_head_on_a_frozen_encoder_is_logistic_regression_on_its_vectors(export, head):
    problem = problem_of(export)
    split_rows = problem.split_rows(61, 1)
    _, scores = fit_neural(problem, split_rows, 1, Start.FROZEN, head)
    vectors = problem.frozen_vectors(head).vectors.astype(float)
    scaled = (vectors - vectors[split_rows.train].mean(axis=0)) / vectors[split_rows.train].std(axis=0)
    model = LogisticRegression(C=scores.chosen["head"]["inverse_penalty"], max_iter=2000)
    model.fit(scaled[split_rows.train], problem.labels[split_rows.train])
    assert scores.test == pytest.approx(model.decision_function(scaled[split_rows.test]), abs=0.01)


def test_a_frozen_encoder_is_unchanged_and_a_pretrained_one_is_fitted(export):
    problem = problem_of(export)
    split_rows = problem.split_rows(None, 1)
    before = weights_of(problem.encoder)
    frozen, _ = fit_neural(problem, split_rows, 1, Start.FROZEN, "mean")
    assert same(before, frozen.encoder.state_dict())
    whole = problem_of(export, replace(TUNING, fit=replace(FIT, head_first=False)))
    moved, scores = fit_neural(whole, split_rows, 1, Start.PRETRAINED, "mean")
    assert not same(before, moved.encoder.state_dict())
    assert "head" not in scores.chosen


def test_a_second_step_without_improvement_is_not_kept(export):
    harmful = problem_of(export, replace(TUNING, learning_rates=(1e-9,)))
    split_rows = harmful.split_rows(None, 1)
    before = weights_of(harmful.encoder)
    predictor, scores = fit_neural(harmful, split_rows, 1, Start.PRETRAINED, "cls")
    if not scores.chosen["kept"]:
        assert same(before, predictor.encoder.state_dict())
    _, probe = fit_neural(harmful, split_rows, 1, Start.FROZEN, "cls")
    assert scores.test == pytest.approx(probe.test, abs=1e-4)


def test_test_labels_are_ignored(export):
    problem = problem_of(export)
    split_rows = problem.split_rows(61, 1)
    hidden = problem.labels.copy()
    hidden[split_rows.test] = 1 - hidden[split_rows.test]
    for start in Start:
        _, scores = fit_neural(problem, split_rows, 1, start, "gru")
        _, again = fit_neural(replace(problem, labels=hidden), split_rows, 1, start, "gru")
        assert np.array_equal(scores.test, again.test)
