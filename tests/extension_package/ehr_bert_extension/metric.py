"""A metric: the share of patients whose outcome is predicted correctly at a risk of 0.5."""

import numpy as np

from ehr_bert.metrics.metric import Metric, WeightedPredictions


def _accuracy(predictions: WeightedPredictions) -> np.ndarray:
    is_correct = (predictions.probabilities >= 0.5) == (predictions.labels == 1)
    return is_correct @ predictions.weights / predictions.weights.sum(axis=0)


ACCURACY = Metric("accuracy", "accuracy", "largest", "classification", _accuracy)
