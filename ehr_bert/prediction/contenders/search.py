"""A small search for hyper-parameters, on the validation split alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ehr_bert.prediction.fitting import Fitted
from ehr_bert.prediction.optimization import FitSettings
from ehr_bert.prediction.predictor import Predictor


@dataclass(frozen=True)
class Found:
    """The best candidate.

    Attributes:
        predictor: Fitted.
        settings: How.
        fitted: What its fit came to.
        tried: The deciding figure of each candidate, in their order.
    """

    predictor: Predictor
    settings: FitSettings
    fitted: Fitted
    tried: tuple[float, ...]


def search(
    make: Callable[[], Predictor],
    fitted_by: Callable[[Predictor, FitSettings], Fitted],
    candidates: Sequence[FitSettings],
) -> Found:
    """Fits a new predictor by each candidate, and keeps the one of the best figure on the validation split.

    Args:
        make: Makes a predictor to fit, the same each time.
        fitted_by: Fits one.
        candidates: Settings; of two equally good ones the first is kept.
    """
    best, tried = None, []
    for settings in candidates:
        predictor = make()
        fitted = fitted_by(predictor, settings)
        tried.append(fitted.score)
        if best is None or fitted.score > best[2].score:
            best = predictor, settings, fitted
    assert best is not None
    return Found(*best, tried=tuple(tried))


def candidates(settings: FitSettings, learning_rates: Sequence[float]) -> list[FitSettings]:
    """The same settings with each of some learning rates; how long each is fitted, early stopping decides."""
    return [replace(settings, learning_rate=rate) for rate in learning_rates]
