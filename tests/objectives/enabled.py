"""The two objectives of stock BERT, for tests."""

from ehr_bert.objectives.masked_codes import MaskedCodesSettings
from ehr_bert.objectives.prolonged_stay import ProlongedStay, ProlongedStaySettings
from ehr_bert.training.recipe import Recipe


def with_weights(masked_codes=1.0, prolonged_stay=1.0):
    """Return the enabled objectives with these weights; a weight of 0 disables an objective."""
    kinds = {"masked_codes": MaskedCodesSettings, "prolonged_stay": ProlongedStaySettings}
    weights = {"masked_codes": masked_codes, "prolonged_stay": prolonged_stay}
    settings = {
        name: kinds[name](weight=weight) if weight else kinds[name](enabled=False)
        for name, weight in weights.items()
    }
    return Recipe(objectives=settings).enabled_objectives()


BOTH = with_weights()


def stay_objective(threshold_days=7):
    """Return the prolonged-stay objective with this threshold."""
    return ProlongedStay("prolonged_stay", ProlongedStaySettings(threshold_days=threshold_days))
