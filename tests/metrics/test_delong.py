import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from ehr_bert.metrics.delong import delong
from tests.user_errors import raises_user_error

# Albumin, total protein, Krebs-Goplerud score, and whether surgery helped, of 43 patients of DeLong, DeLong
# and Clarke-Pearson (1988), as the SAS/STAT User's Guide prints them, with the areas and tests below (the
# LOGISTIC procedure, "Comparing Receiver Operating Characteristic Curves").
OBSTRUCTION = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1
3.8 5.7 5 1  3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0
2.3 4.4 6 1  4.2 7.6 4 0  4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1
3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1  4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0
3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1  2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1
3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1
"""


@pytest.mark.parametrize(
    ("column", "area", "difference", "standard_error", "p_value"),
    [(0, 0.7366, 0.0108, 0.0953, 0.9102), (1, 0.6478, -0.0780, 0.1046, 0.4561)],
)
def test_a_published_example(column, area, difference, standard_error, p_value):
    rows = np.array(OBSTRUCTION.split(), float).reshape(43, 4)
    comparison = delong(rows[:, 3], rows[:, column], -rows[:, 2])
    assert comparison.auroc_one == pytest.approx(area, abs=5e-5)
    assert comparison.auroc_other == pytest.approx(0.7258, abs=5e-5)
    assert comparison.difference == pytest.approx(difference, abs=5e-5)
    assert (comparison.high - comparison.low) / (2 * norm.ppf(0.975)) == pytest.approx(
        standard_error, abs=5e-5
    )
    assert comparison.p_value == pytest.approx(p_value, abs=5e-5)


def by_pairs(labels, one, other):
    """The statistic as DeLong et al. define it, over all pairs of a case and a control."""
    placements = []
    for scores in (one, other):
        positive, negative = scores[labels == 1], scores[labels == 0]
        wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)  # [cases, controls]
        placements.append((wins.mean(axis=1), wins.mean(axis=0)))
    (above, below), (other_above, other_below) = placements
    variance = np.var(above - other_above, ddof=1) / len(above) + np.var(below - other_below, ddof=1) / len(
        below
    )
    return above.mean() - other_above.mean(), variance


@given(
    labels=arrays(int, 17, elements=st.integers(0, 1)).filter(lambda values: 2 <= values.sum() <= 15),
    scores=arrays(float, (2, 17), elements=st.integers(0, 6).map(float)),
)
def test_it_equals_the_definition_over_all_pairs(labels, scores):
    difference, variance = by_pairs(labels, *scores)
    comparison = delong(labels, *scores)
    assert comparison.auroc_one == pytest.approx(roc_auc_score(labels, scores[0]), abs=1e-12)
    assert comparison.difference == pytest.approx(difference, abs=1e-12)
    assert comparison.high - comparison.low == pytest.approx(
        2 * norm.ppf(0.975) * np.sqrt(variance), abs=1e-6
    )
    if variance > 1e-9:
        assert comparison.p_value == pytest.approx(2 * norm.sf(abs(difference) / np.sqrt(variance)), abs=1e-9)


def test_a_model_does_not_differ_from_itself():
    labels = np.array([0, 1, 0, 1, 1])
    comparison = delong(labels, labels * 0.1, labels * 0.1)
    assert (comparison.difference, comparison.low, comparison.high, comparison.p_value) == (0, 0, 0, 1)


def test_seeds_are_averaged():
    random = np.random.default_rng(3)
    labels = np.arange(41) % 3 == 0
    seeds, other = random.normal(labels, 1, (5, 41)), random.normal(labels, 1, 41)
    comparison = delong(labels, seeds, other)
    assert comparison.auroc_one == pytest.approx(np.mean([roc_auc_score(labels, scores) for scores in seeds]))
    assert delong(labels, seeds[[0, 0]], other) == delong(labels, seeds[0], other)


def test_p_values_of_equally_good_models_are_uniform():
    random = np.random.default_rng(0)
    labels = np.arange(150) % 3 == 0
    values = [delong(labels, *(random.normal(0.8 * labels, 1, (2, 150)))).p_value for _ in range(400)]
    assert np.mean(np.array(values) < 0.05) == pytest.approx(0.05, abs=0.03)
    assert np.mean(values) == pytest.approx(0.5, abs=0.05)


def test_too_few_outcomes_are_refused():
    with raises_user_error("too-few-cases", 1, 3):
        delong(np.array([1, 0, 0, 0]), np.arange(4), np.arange(4))
