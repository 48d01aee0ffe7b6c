import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ehr_bert.simulation.choices import Choices

WEIGHTS = st.lists(
    st.lists(st.sampled_from([0.0, 0.3, 1.0, 7.0]), min_size=1, max_size=5).filter(any),
    min_size=1,
    max_size=7,
)
QUANTILES = st.floats(0, 1, exclude_max=True) | st.just(float(np.nextafter(1, 0)))


@given(WEIGHTS, st.data())
def test_a_draw_is_the_quantile_of_its_group(weights: list[list[float]], data: st.DataObject) -> None:
    group = data.draw(st.integers(0, len(weights) - 1))
    quantile = data.draw(QUANTILES)
    item = Choices([np.array(group_weights) for group_weights in weights]).draw(
        np.array([group]), np.array([quantile])
    )[0]
    place = item - sum(map(len, weights[:group]))
    assert weights[group][place] > 0
    below, total = sum(weights[group][:place]), sum(weights[group])
    assert below / total - 1e-12 <= quantile <= (below + weights[group][place]) / total + 1e-12
