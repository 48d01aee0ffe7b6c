import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from ehr_bert.simulation.auroc import rank_auroc


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
