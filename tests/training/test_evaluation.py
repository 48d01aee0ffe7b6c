import dataclasses
import json
import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from ehr_bert.model.pretraining import build_model
from ehr_bert.objectives.masked_codes import MaskedCodesSettings, code_frequencies
from ehr_bert.objectives.prolonged_stay import ProlongedStaySettings, prevalence
from ehr_bert.training.evaluation import (
    EvaluationResult,
    Evaluator,
    record_evaluation,
)
from ehr_bert.training.recipe import Recipe
from ehr_bert.training.record.folder import TrainingFolder
from ehr_bert.vocabulary import CodeCount, Vocabulary
from tests.model.small import LAYOUT, SMALL, VOCABULARY
from tests.training.streams import RandomUpdates

BATCHES = RandomUpdates(steps=3)
CELLS = [update[0] for update in BATCHES.updates[:3]]
CONFIG = dataclasses.replace(SMALL, initializer_range=0.5)
CODES = Vocabulary.from_counts(CodeCount(f"ICD9_{code:03}", 1, 100 - code) for code in range(VOCABULARY - 5))


def evaluated(recipe=None, vocabulary=CODES, batches=BATCHES):
    model = build_model(CONFIG, seed=1)
    strategy = tf.distribute.get_strategy()
    evaluator = Evaluator(strategy, model, batches, recipe or Recipe(), vocabulary=vocabulary, compiled=False)
    return model, evaluator(6)


@pytest.fixture(scope="module")
def whole():
    return evaluated()


def scored(model):
    """By masked code its id and scores, and by patient the label and risk, as the model's call gives them."""
    ids, scores, labels, risks = [], [], [], []
    for cell in CELLS:
        outputs = model({name: tf.constant(value) for name, value in cell.items()}, layout=LAYOUT)
        masked, present = cell["masked_weights"] > 0, cell["patient_weights"] > 0
        ids.extend(cell["masked_ids"][masked])
        scores.extend(outputs["masked_lm_logits"].numpy()[masked])
        labels.extend(cell["stay_labels"][present])
        risks.extend(tf.nn.softmax(outputs["stay_logits"])[:, 1].numpy()[present])
    return np.array(ids), np.array(scores), np.array(labels), np.array(risks)


def test_the_figures_of_masked_codes_are_those_of_plain_numpy(whole):
    model, result = whole
    ids, scores, _, _ = scored(model)
    shifted = scores - scores.max(axis=1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(ids)), ids]
    ranks = (scores > scores[np.arange(len(ids)), ids][:, None]).sum(axis=1)
    codes = result.objectives["masked_codes"].metrics
    assert codes["loss"] == pytest.approx(losses.mean(), rel=1e-5)
    assert codes["perplexity"] == pytest.approx(np.exp(losses.mean()), rel=1e-5)
    assert codes["accuracy"] == pytest.approx((ranks < 1).mean())
    assert codes["accuracy_top_5"] == pytest.approx((ranks < 5).mean())
    assert codes["accuracy_top_10"] == pytest.approx((ranks < 10).mean())
    assert 0 < codes["accuracy"] < codes["accuracy_top_5"] < codes["accuracy_top_10"] < 1


def test_the_figures_of_prolonged_stays_are_those_of_their_definitions(whole):
    model, result = whole
    _, _, labels, risks = scored(model)
    stay = result.objectives["prolonged_stay"].metrics
    assert result.patients == len(labels)
    assert stay["loss"] == pytest.approx(-np.log(np.where(labels, risks, 1 - risks)).mean(), rel=1e-5)
    assert stay["accuracy"] == pytest.approx(((risks > 0.5) == labels).mean())
    over = risks[labels == 1][:, None] - risks[labels == 0]
    assert stay["auroc"] == pytest.approx(((over > 0) + 0.5 * (over == 0)).mean())
    by_risk = labels[np.argsort(-risks)]
    precisions = by_risk.cumsum() / np.arange(1, len(labels) + 1)
    assert stay["average_precision"] == pytest.approx(precisions[by_risk == 1].mean())


def test_the_baselines_know_how_frequent_codes_and_prolonged_stays_are(whole):
    model, result = whole
    ids, _, labels, _ = scored(model)
    counts = np.array(CODES.occurrences) + 1
    assert result.objectives["masked_codes"].baseline["loss"] == pytest.approx(
        -np.log(counts[ids] / counts.sum()).mean()
    )
    assert result.objectives["masked_codes"].baseline["accuracy"] == pytest.approx((ids == 5).mean())
    assert result.objectives["masked_codes"].baseline["accuracy_top_5"] == pytest.approx(
        np.isin(ids, range(5, 10)).mean()
    )
    assert result.objectives["masked_codes"].baseline["accuracy_top_10"] == pytest.approx(
        np.isin(ids, range(5, 15)).mean()
    )
    share = labels.mean()
    assert result.objectives["prolonged_stay"].baseline["loss"] == pytest.approx(
        -(labels * np.log(share) + (1 - labels) * np.log(1 - share)).mean()
    )
    assert result.objectives["prolonged_stay"].baseline["accuracy"] == max(share, 1 - share)
    assert (
        result.objectives["prolonged_stay"].baseline["auroc"],
        result.objectives["prolonged_stay"].baseline["average_precision"],
    ) == (0.5, share)


def test_the_loss_is_that_of_training_and_names_are_the_tutorial_s(whole):
    _, result = whole
    assert result.loss == pytest.approx(sum(part.metrics["loss"] for part in result.objectives.values()))
    assert list(result.published()) == [
        "global_step",
        "loss",
        "masked_lm_accuracy",
        "masked_lm_loss",
        "next_sentence_accuracy",
        "next_sentence_auroc",
        "next_sentence_loss",
    ]
    assert {name: result.figures()[name] for name in list(result.published())[1:]} == {
        name: value for name, value in result.published().items() if name != "global_step"
    }
    assert "next_sentence_average_precision" in result.figures()
    codes = result.objectives["masked_codes"]
    assert f"loss {codes.metrics['loss']:.4f} ({codes.baseline['loss']:.4f})" in str(result)


@pytest.mark.parametrize(
    ("recipe", "absent"),
    [
        (
            Recipe(
                objectives={
                    "masked_codes": MaskedCodesSettings(weight=2),
                    "prolonged_stay": ProlongedStaySettings(enabled=False),
                }
            ),
            "next",
        ),
        (
            Recipe(
                objectives={
                    "masked_codes": MaskedCodesSettings(enabled=False),
                    "prolonged_stay": ProlongedStaySettings(weight=2),
                }
            ),
            "masked",
        ),
    ],
)
def test_an_objective_that_is_not_trained_has_no_figures(whole, recipe, absent):
    _, result = evaluated(recipe)
    baseline = {"next": "prevalence", "masked": "code_frequencies"}[absent]
    assert not [name for name in result.figures() if name.startswith((absent, baseline))]
    assert not [name for name in result.published() if name.startswith(absent)]
    ((name, kept),) = result.objectives.items()
    assert kept.metrics == whole[1].objectives[name].metrics
    assert result.loss == pytest.approx(2 * kept.metrics["loss"])


def test_without_counts_the_baseline_knows_the_masked_codes_themselves():
    uncounted = dataclasses.replace(CODES, occurrences=(0,) * len(CODES))
    _, result = evaluated(vocabulary=uncounted)
    _, alone = evaluated(vocabulary=None)
    assert result.figures() == alone.figures()
    ids = np.concatenate([cell["masked_ids"][cell["masked_weights"] > 0] for cell in CELLS])
    shares = np.bincount(ids)[np.unique(ids)] / len(ids)
    assert result.objectives["masked_codes"].baseline["loss"] == pytest.approx(
        -(shares * np.log(shares)).sum()
    )


def test_where_all_patients_agree_no_ranking_is_told():
    batches = RandomUpdates(steps=1)
    batches.updates[0][0]["stay_labels"][:] = 0
    _, result = evaluated(batches=batches)
    assert math.isnan(result.published()["next_sentence_auroc"])
    assert not [name for name in result.figures() if name.endswith(("auroc", "average_precision"))]
    assert result.objectives["prolonged_stay"].baseline["loss"] == 0


@given(
    masked=st.lists(st.integers(0, 9), min_size=12, max_size=12).filter(any),
    frequencies=st.lists(st.integers(0, 9), min_size=12, max_size=12),
)
def test_no_guess_by_frequency_beats_that_of_the_masked_codes_themselves(masked, frequencies):
    own = code_frequencies(np.array(masked), np.zeros(12, int))
    result = code_frequencies(np.array(masked), np.array(frequencies))
    assert own["loss"] <= result["loss"] + 1e-12
    assert own["accuracy"] >= result["accuracy"]
    assert result["accuracy"] <= result["accuracy_top_5"] <= result["accuracy_top_10"] <= 1


def test_a_patient_with_a_prolonged_stay_each_is_certain():
    assert prevalence(np.ones(3))["loss"] == 0
    assert prevalence(np.ones(3))["accuracy"] == 1


def test_an_evaluation_alone_is_recorded_in_the_folder(tmp_path):
    result = EvaluationResult(6, 23, 2.5, {})
    record_evaluation(TrainingFolder(tmp_path), result)
    assert (tmp_path / "eval_results.txt").read_text() == "global_step = 6\nloss = 2.5\n"
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert line == {"step": 6, "eval/loss": 2.5, "eval/patients": 23}
    assert list((tmp_path / "events").iterdir())
