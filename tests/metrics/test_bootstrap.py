import numpy as np
import pytest
from scipy.special import expit

from ehr_bert.metrics.bootstrap import bootstrap, bootstrap_difference
from ehr_bert.metrics.metric import METRICS
from ehr_bert.metrics.summary import binary_metrics


def predictions(seeds=3, examples=211):
    random = np.random.default_rng(1)
    log_odds = random.normal(-0.5, 1, examples)
    labels = (random.random(examples) < expit(log_odds)).astype(float)
    return labels, expit(log_odds + random.normal(0, 1, (seeds, examples)))


def metrics_of_repeated_examples(labels, probabilities, replicates, seed, patients):
    """Return the metrics of each replicate, computed on repeated examples."""
    random = np.random.default_rng(seed)
    number = patients.max() + 1
    values = []
    for draw in random.integers(0, number, size=(replicates, number)):
        rows = np.concatenate([np.flatnonzero(patients == patient) for patient in draw])
        by_seed = [binary_metrics(labels[rows], row[rows]) for row in probabilities]
        values.append({name: np.mean([metrics[name] for metrics in by_seed]) for name in METRICS})
    return values


@pytest.mark.parametrize("by_patient", [False, True])
def test_intervals_equal_those_of_repeated_examples(by_patient):
    labels, probabilities = predictions()
    patients = np.arange(len(labels)) // 3 if by_patient else np.arange(len(labels))
    intervals = bootstrap(labels, probabilities, 40, seed=7, patients=patients if by_patient else None)
    expected = metrics_of_repeated_examples(labels, probabilities, 40, 7, patients)
    for name in METRICS:
        low, high = np.percentile([values[name] for values in expected], (2.5, 97.5))
        assert (intervals[name].low, intervals[name].high) == pytest.approx((low, high), abs=1e-4), name
        over_seeds = np.mean([binary_metrics(labels, row)[name] for row in probabilities])
        assert intervals[name].value == pytest.approx(over_seeds, abs=1e-12)


def test_the_names_of_patients_do_not_matter():
    labels, probabilities = predictions()
    patients = np.arange(len(labels)) // 2
    named = np.array([f"patient {number:04}" for number in patients], dtype=object)
    assert bootstrap(labels, probabilities, 9, patients=named) == bootstrap(
        labels, probabilities, 9, patients=patients
    )


def test_intervals_depend_on_the_seed_only():
    labels, probabilities = predictions()
    first = bootstrap(labels, probabilities, 30, seed=1)
    assert bootstrap(labels, probabilities, 30, seed=1) == first
    assert bootstrap(labels, probabilities, 30, seed=2)["auroc"] != first["auroc"]


def test_repeated_examples_of_a_patient_do_not_narrow_an_interval():
    labels, probabilities = predictions(seeds=1)
    once = bootstrap(labels, probabilities, 200)["auroc"]
    patients = np.arange(len(labels)).repeat(4)
    four_times = bootstrap(labels.repeat(4), probabilities.repeat(4, axis=1), 200, patients=patients)["auroc"]
    assert (four_times.low, four_times.high) == pytest.approx((once.low, once.high), abs=1e-6)


def test_a_model_does_not_differ_from_itself():
    labels, probabilities = predictions()
    for interval in bootstrap_difference(labels, probabilities, probabilities, 20).values():
        assert (interval.value, interval.low, interval.high) == (0, 0, 0)


def test_a_difference_is_computed_on_the_same_replicates():
    labels, probabilities = predictions(seeds=2)
    slightly = np.clip(probabilities + 1e-3 * labels, 0, 1)
    interval = bootstrap_difference(labels, slightly, probabilities, 100)["auroc"]
    alone = bootstrap(labels, probabilities, 100)["auroc"]
    assert interval.low >= 0
    assert interval.high - interval.low < 0.1 * (alone.high - alone.low)


def test_an_undefined_metric_has_no_interval():
    intervals = bootstrap(np.zeros(5), np.full((1, 5), 0.1), 10)
    assert np.isnan([intervals["auroc"].value, intervals["auroc"].low, intervals["auroc"].high]).all()
    assert intervals["brier"].high == pytest.approx(0.01)


def test_replicates_without_cases_are_left_out():
    labels, probabilities = np.array([1, 0, 0, 0.0]), np.array([[0.4, 0.1, 0.6, 0.2]])
    intervals = bootstrap(labels, probabilities, 100)["auroc"]
    assert 0 <= intervals.low <= intervals.value <= intervals.high <= 1
