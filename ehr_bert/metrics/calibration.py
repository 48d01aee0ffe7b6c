"""From a model's logits to risks, fitted on the validation split."""

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
    """Ways to calibrate."""

    TEMPERATURE = "temperature"
    PLATT = "platt"
    ISOTONIC = "isotonic"


@dataclass(frozen=True)
class Calibration:
    """A piecewise linear function of the logit, or a temperature and a shift.

    Attributes:
        method: How it was fitted.
        temperature: By which logits are divided; None of an isotonic one.
        shift: What is then added to them.
        logits: Knots in rising order, `[K]`; none of a temperature.
        risks: The risk at each, `[K]`.
    """

    method: Method
    temperature: float | None = None
    shift: float = 0.0
    logits: tuple[float, ...] = ()
    risks: tuple[float, ...] = ()

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """The risks: float64, of the shape of `logits`."""
        if self.temperature is not None:
            return expit(np.asarray(logits, float) / self.temperature + self.shift)
        return np.interp(logits, self.logits, self.risks)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        if self.temperature is not None:
            return {"method": self.method.value, "temperature": self.temperature, "shift": self.shift}
        return {"method": self.method.value, "logits": list(self.logits), "risks": list(self.risks)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Calibration":
        """What `to_dict` gave.

        Raises:
            UserError: it is something else.
        """
        try:
            method = Method(values["method"])
            if method is Method.ISOTONIC:
                return cls(method, logits=tuple(values["logits"]), risks=tuple(values["risks"]))
            return cls(method, temperature=float(values["temperature"]), shift=float(values["shift"]))
        except (KeyError, ValueError, TypeError) as error:
            raise UserError(f"a calibration can't be read: {error} is wrong or missing") from error


def fit_calibration(logits: np.ndarray, labels: np.ndarray, method: str = Method.TEMPERATURE) -> Calibration:
    """Fits risks to outcomes that the model wasn't trained on.

    A temperature keeps the order of risks, and so does Platt's temperature and shift; isotonic regression
    keeps it but for ties, and follows any shape, for which it wants some hundred outcomes.

    Args:
        logits: `[N]`.
        labels: 0 or 1, `[N]`.
        method: A `Method`.

    Returns:
        The calibration; risks of an isotonic one stay within 1/(N + 2) of 0 and 1, for nobody's is 0 or 1.

    Raises:
        UserError: there is no such method.
    """
    logits, labels = np.asarray(logits, float), np.asarray(labels, float)
    if method == Method.TEMPERATURE:
        return Calibration(Method.TEMPERATURE, temperature=_temperature(logits, labels))
    if method == Method.PLATT:
        return _platt(logits, labels)
    if method != Method.ISOTONIC:
        raise UserError(f"there is no calibration {method!r}: choose one of {', '.join(Method)}")
    from sklearn.isotonic import IsotonicRegression

    least = 1 / (len(labels) + 2)
    fitted = IsotonicRegression(y_min=least, y_max=1 - least).fit(logits, labels)
    return Calibration(
        Method.ISOTONIC,
        logits=tuple(map(float, fitted.X_thresholds_)),
        risks=tuple(map(float, fitted.y_thresholds_)),
    )


def _platt(logits: np.ndarray, labels: np.ndarray) -> Calibration:
    """Outcomes regressed on the logits; a temperature alone where that would turn their order.

    As Platt (1999) has it, nobody's outcome is quite certain, so that few outcomes give no extreme risks.
    """
    positives = labels.sum()
    targets = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (len(labels) - positives + 2))
    shift, slope = lines(targets, logits, np.ones((len(logits), 1)))[0]
    if not slope > 0:  # NaN too: outcomes are parted, or all alike
        return Calibration(Method.PLATT, temperature=_temperature(logits, labels))
    return Calibration(Method.PLATT, temperature=float(1 / slope), shift=float(shift))


def _temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """That of the least cross entropy."""

    def cross_entropy(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return float(np.mean(np.logaddexp(0, scaled) - labels * scaled))

    best = minimize_scalar(cross_entropy, bounds=(-5, 5), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(best.x))
