"""Pretraining objectives, one per file. Other packages can add objectives (group `ehr_bert.objectives`)."""

from typing import Any

from ehr_bert.objectives.objective import Objective
from ehr_bert.registry import Registry

OBJECTIVES: Registry[type[Objective[Any]]] = Registry(
    "objective",
    "ehr_bert.objectives",
    {
        "masked_codes": "ehr_bert.objectives.masked_codes:MaskedCodes",
        "prolonged_stay": "ehr_bert.objectives.prolonged_stay:ProlongedStay",
    },
)
"""Classes of objectives by name. The name is that of the objective's table in a recipe."""


def default_objectives() -> list[Objective[Any]]:
    """Return all registered objectives with their default settings."""
    return [objective(name, objective.settings_type()) for name, objective in OBJECTIVES.items()]


DEFAULT_OBJECTIVES = ("masked_codes", "prolonged_stay")
"""Objectives that are trained unless a recipe disables them. Other objectives are trained if the recipe has
their table."""
