import numpy as np
from scipy.special import log_softmax

from ehr_bert.model.losses import masked_lm_sums, stay_sums


def test_masked_lm_sums_are_those_of_a_plain_loop():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(13, 3, 7)).astype("float32")
    labels = rng.integers(0, 7, (13, 3)).astype("int32")
    weights = rng.integers(0, 2, (13, 3)).astype("float32")
    loss = correct = count = 0.0
    for row, place in zip(*np.nonzero(weights), strict=True):
        loss -= log_softmax(logits[row, place])[labels[row, place]]
        correct += logits[row, place].argmax() == labels[row, place]
        count += 1
    found = masked_lm_sums(logits, labels, weights)
    np.testing.assert_allclose(
        [float(found[name]) for name in ("loss", "correct", "count")], [loss, correct, count], rtol=1e-6
    )


def test_stay_sums_leave_out_examples_of_no_weight():
    logits = np.array([[2.0, -1.0], [0.0, 3.0], [5.0, 5.0]], "float32")
    found = stay_sums(logits, np.array([0, 0, 1], "int32"), np.array([1, 1, 0], "float32"))
    expected = -log_softmax(logits[0])[0] - log_softmax(logits[1])[0]
    np.testing.assert_allclose(float(found["loss"]), expected, rtol=1e-6)
    assert (float(found["correct"]), float(found["count"])) == (1, 2)
