import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from ehr_bert.simulation.auroc import BinnedRisks, RiskTotals, rank_auroc


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=17))
def test_auroc_of_labels_equals_scikit_learn(pairs: list[tuple[int, bool]]) -> None:
    scores, labels = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    if labels.min() == labels.max():
        assert rank_auroc(scores, labels) is None
    else:
        assert rank_auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))


def test_auroc_of_probabilities_weights_every_pair() -> None:
    probabilities = np.array([0.1, 0.3, 0.3, 0.8, 0.6])
    won = pairs = 0.0
    for i, case in enumerate(probabilities):
        for j, other in enumerate(probabilities):
            if i != j:
                pairs += case * (1 - other)
                won += case * (1 - other) * (1.0 if case > other else 0.5 if case == other else 0.0)
    assert rank_auroc(probabilities, probabilities) == pytest.approx(won / pairs)


def test_totals_of_chunks_are_those_of_all_risks() -> None:
    rng = np.random.default_rng(7)
    risk = (rng.random(3001) ** 4).astype(np.float32)
    risk[:3] = 0, 1, 0.5
    series = rng.integers(0, 3, 3001)
    totals = RiskTotals(4)
    for part in np.array_split(np.arange(3001), 5):
        totals.add(BinnedRisks.of(series[part], risk[part]))
    for number in range(3):
        own = risk[series == number].astype(float)
        count, mean, area = totals.figures(number)
        assert count == len(own)
        assert mean == pytest.approx(own.mean())
        assert area == pytest.approx(rank_auroc(own, own), abs=1e-4)
    assert totals.figures(3) == (0, None, None)


def test_bins_are_narrow() -> None:
    risk = np.linspace(1e-6, 1, 10_007, dtype=np.float32)
    bins = BinnedRisks.of(np.zeros(len(risk), int), risk)
    mean = bins.total / bins.count
    deviation = np.sqrt(np.maximum(bins.squares / bins.count - mean**2, 0))
    assert (deviation <= mean / 256).all()
