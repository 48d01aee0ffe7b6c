# Covers: ehr_bert.metrics.metric, ehr_bert.metrics.binary
import numpy as np
import pytest

from ehr_bert.metrics import metric as metric_module
from ehr_bert.metrics.discrimination import thresholds
from ehr_bert.metrics.metric import METRICS, Metric
from ehr_bert.metrics.summary import binary_metrics


def test_each_metric_is_registered_under_its_key():
    assert [metric.key for metric in METRICS.values()] == list(METRICS)


@pytest.mark.parametrize(
    ("direction", "values"), [("largest", (0.9, 0.5)), ("smallest", (0.1, 0.2)), (1.0, (1.1, 0.8))]
)
def test_better_values_have_a_smaller_distance(direction, values):
    metric = Metric("key", "title", direction, "group", lambda predictions: predictions.total)
    better, worse = values
    assert metric.distance(better) < metric.distance(worse)


def test_thresholds_are_computed_once_for_all_metrics(monkeypatch):
    calls = []

    def counted(*arguments):
        calls.append(arguments)
        return thresholds(*arguments)

    monkeypatch.setattr(metric_module, "thresholds", counted)
    binary_metrics(np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.5, 0.8]))
    assert len(calls) == 1
