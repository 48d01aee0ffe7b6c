import numpy as np
import pytest

from ehr_bert.model.dropout import drop

ROWS, UNITS = 1013, 192


def dropped(rate, site=0, seed=0, shift=0):
    keys = np.random.default_rng(seed).integers(-(2**31), 2**31, ROWS).astype("int32") + np.int32(shift)
    return np.asarray(drop(np.ones((ROWS, UNITS), "float32"), rate, keys[:, None], site))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_a_share_is_dropped_and_the_rest_scaled_up(rate):
    values = dropped(rate)
    kept = values > 0
    np.testing.assert_allclose(values[kept], 1 / (1 - rate), rtol=1e-6)
    deviation = np.sqrt(rate * (1 - rate) / values.size)
    assert abs(kept.mean() - (1 - rate)) < 4 * deviation
    # By unit and by row too: nothing is dropped more than chance would.
    for axis, count in ((0, ROWS), (1, UNITS)):
        z = (kept.mean(axis) - (1 - rate)) / np.sqrt(rate * (1 - rate) / count)
        assert 0.8 < z.std() < 1.2
        assert np.abs(z).max() < 5.5


@pytest.mark.parametrize("other", [{"site": 1}, {"site": 17}, {"shift": 1}, {"seed": 1}])
def test_sites_and_keys_drop_independently(other):
    one, two = dropped(0.5) > 0, dropped(0.5, **other) > 0
    correlation = np.corrcoef(one.ravel(), two.ravel())[0, 1]
    assert abs(correlation) < 5 / np.sqrt(one.size)


def test_units_of_a_row_drop_independently():
    kept = dropped(0.5) > 0
    correlations = np.corrcoef(kept.T)[~np.eye(UNITS, dtype=bool)]
    assert np.abs(correlations).max() < 6 / np.sqrt(ROWS)


def test_nothing_is_dropped_at_rate_0():
    assert (dropped(0.0) == 1).all()
