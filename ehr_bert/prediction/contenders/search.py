"""A small hyperparameter search on the validation split."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ehr_bert.prediction.fitting import FitResult
from ehr_bert.prediction.optimization import FitSettings, SearchFitSettings
from ehr_bert.prediction.predictor import Predictor


@dataclass(frozen=True)
class SearchResult:
    """The best candidate of a search.

    Attributes:
        predictor: The fitted predictor.
        settings: Its settings.
        fitted: The outcome of its fit.
        tried: Score of each candidate, in order.
    """

    predictor: Predictor
    settings: FitSettings
    fitted: FitResult
    tried: tuple[float, ...]


def search(
    make: Callable[[], Predictor],
    fit_candidate: Callable[[Predictor, FitSettings], FitResult],
    candidates: Sequence[FitSettings],
) -> SearchResult:
    """Fit a new predictor with each candidate, and return the one with the best validation score.

    Args:
        make: Returns a new predictor to fit, the same each time.
        fit_candidate: Fits a predictor with some settings.
        candidates: Settings. Of candidates with the same score, the first is returned.
    """
    best, tried = None, []
    for settings in candidates:
        predictor = make()
        fitted = fit_candidate(predictor, settings)
        tried.append(fitted.score)
        if best is None or fitted.score > best[2].score:
            best = predictor, settings, fitted
    assert best is not None
    return SearchResult(*best, tried=tuple(tried))


def candidates(settings: SearchFitSettings, learning_rates: Sequence[float]) -> list[FitSettings]:
    """Return the same settings with each learning rate, for fits in one step (`head_first` is false)."""
    shared = settings.to_dict() | {"head_first": False}
    return [FitSettings(**shared, learning_rate=rate) for rate in learning_rates]
