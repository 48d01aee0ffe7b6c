import numpy as np
import pytest

from ehr_bert.simulation.uniformisation import poisson_weights


@pytest.mark.parametrize("mean", [0.0, 0.3, 7.0, 900.0])
def test_weights_have_the_mean_and_variance_of_a_poisson_distribution(mean: float) -> None:
    weights = poisson_weights(mean)
    jumps = np.arange(len(weights))
    assert weights.sum() == pytest.approx(1)
    assert weights @ jumps == pytest.approx(mean)
    assert weights @ (jumps - mean) ** 2 == pytest.approx(mean)
