"""Calibration: functions from a model's logits to risks, fitted on the validation split."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit

from ehr_bert.errors import UserError
from ehr_bert.metrics.recalibration import lines


class Method(StrEnum):
    """Methods of calibration."""

    TEMPERATURE = "temperature"
    PLATT = "platt"
    ISOTONIC = "isotonic"


@dataclass(frozen=True)
class Calibration:
    """A function from logits to risks: a temperature and a shift, or piecewise linear.

    Attributes:
        method: Method with which it was fitted.
        temperature: Divisor of the logits; None for the isotonic method.
        shift: Term added to the divided logits.
        logits: Knots of the isotonic method in ascending order.
        risks: Risk at each knot.
    """

    method: Method
    temperature: float | None = None
    shift: float = 0.0
    logits: tuple[float, ...] = ()
    risks: tuple[float, ...] = ()

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return the risks: float64, in the shape of `logits`."""
        if self.temperature is not None:
            return expit(np.asarray(logits, float) / self.temperature + self.shift)
        return np.interp(logits, self.logits, self.risks)

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters for JSON."""
        if self.temperature is not None:
            return {"method": self.method.value, "temperature": self.temperature, "shift": self.shift}
        return {"method": self.method.value, "logits": list(self.logits), "risks": list(self.risks)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Calibration":
        """Return the calibration that `to_dict` describes.

        Raises:
            UserError: A parameter is wrong or missing (key `invalid-calibration`).
        """
        try:
            method = Method(values["method"])
            if method is Method.ISOTONIC:
                return cls(method, logits=tuple(values["logits"]), risks=tuple(values["risks"]))
            return cls(method, temperature=float(values["temperature"]), shift=float(values["shift"]))
        except (KeyError, ValueError, TypeError) as error:
            raise UserError(
                "invalid-calibration",
                f"the calibration cannot be read: {error} is wrong or missing. Fine-tune the model again.",
            ) from error


def fit_calibration(logits: np.ndarray, labels: np.ndarray, method: str = Method.TEMPERATURE) -> Calibration:
    """Fit a calibration on examples that the model was not trained on.

    A temperature and Platt scaling keep the order of the logits. Isotonic regression keeps it except for ties
    and follows any shape, for which it needs a few hundred cases.

    Args:
        logits: `[N]`.
        labels: 0 or 1: `[N]`.
        method: A `Method`.

    Returns:
        The calibration. Isotonic risks are at least 1/(N + 2) away from 0 and 1, since no risk is certain.

    Raises:
        UserError: The method is unknown (key `unknown-calibration`).
    """
    logits, labels = np.asarray(logits, float), np.asarray(labels, float)
    if method == Method.TEMPERATURE:
        return Calibration(Method.TEMPERATURE, temperature=_temperature(logits, labels))
    if method == Method.PLATT:
        return _platt(logits, labels)
    if method != Method.ISOTONIC:
        raise UserError(
            "unknown-calibration", f"unknown calibration {method!r}. Choose one of {', '.join(Method)}."
        )
    from sklearn.isotonic import IsotonicRegression

    least = 1 / (len(labels) + 2)
    fitted = IsotonicRegression(y_min=least, y_max=1 - least).fit(logits, labels)
    return Calibration(
        Method.ISOTONIC,
        logits=tuple(map(float, fitted.X_thresholds_)),
        risks=tuple(map(float, fitted.y_thresholds_)),
    )


def _platt(logits: np.ndarray, labels: np.ndarray) -> Calibration:
    """Fit a logistic regression on the logits, or a temperature if the regression would reverse their order.

    The targets are slightly above 0 and below 1 (Platt 1999), so that few cases give no extreme risks.
    """
    positives = labels.sum()
    targets = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (len(labels) - positives + 2))
    shift, slope = lines(targets, logits, np.ones((len(logits), 1)))[0]
    if not slope > 0:  # also NaN, where the logits separate the labels or all labels are equal
        return Calibration(Method.PLATT, temperature=_temperature(logits, labels))
    return Calibration(Method.PLATT, temperature=float(1 / slope), shift=float(shift))


def _temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature with the lowest cross entropy."""

    def cross_entropy(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return float(np.mean(np.logaddexp(0, scaled) - labels * scaled))

    best = minimize_scalar(cross_entropy, bounds=(-5, 5), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(best.x))
