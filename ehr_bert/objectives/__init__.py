"""Pretraining objectives, one per file. Other packages can add objectives (group `ehr_bert.objectives`)."""

from typing import Any

from ehr_bert.objectives.objective import Objective, ObjectiveSettings
from ehr_bert.registry import Guard, Registry, with_guards, wrong_class

_GUARDED = (
    "__init__",
    "check_examples",
    "expected_count",
    "head",
    "flops",
    "loss_with_gradients",
    "predictions",
)


def _adopted(name: str, loaded: Any, guard: Guard) -> type[Objective[Any]] | str:
    if problem := wrong_class(loaded, Objective) or wrong_class(loaded.settings_type, ObjectiveSettings):
        return problem
    if "loss" not in loaded.sum_names:
        return "its sum_names do not contain 'loss'"
    return with_guards(
        loaded,
        {method: guard(getattr(loaded, method)) for method in _GUARDED}
        | {
            "labels": guard(loaded.labels, _wrong_labels),
            "loss": guard(loaded.loss, _wrong_sums),
            "evaluation_sums": guard(loaded.evaluation_sums, _wrong_sums_of_evaluation),
            "metrics": guard(loaded.metrics, _wrong_metrics),
            "baseline": guard(loaded.baseline, _wrong_figures),
        },
    )


def _wrong_labels(labels: Any, objective: Objective[Any], *_: Any) -> str | None:
    if not isinstance(labels, dict):
        return f"returned labels of type {type(labels).__name__}, not a dict of tensors"
    for key, tensor in labels.items():
        if not key.startswith(objective.name):
            return f"returned the labels {key!r}, whose name does not begin with {objective.name!r}"
        if tensor.shape.rank is not None and tensor.shape.rank < 2:
            return f"returned the labels {key!r} with shape {tensor.shape}, not [W, ...]"
    return None


def _wrong_sums_of_evaluation(sums: Any, objective: Objective[Any], *_: Any) -> str | None:
    if not isinstance(sums, dict):
        return f"returned sums of type {type(sums).__name__}, not a dict of tensors"
    missing = [key for key in objective.sum_names if key not in sums]
    return f"does not return the sums {', '.join(missing)} of its sum_names" if missing else None


def _wrong_sums(sums: Any, objective: Objective[Any], *_: Any) -> str | None:
    if problem := _wrong_sums_of_evaluation(sums, objective):
        return problem
    if further := [key for key in sums if key not in objective.sum_names]:
        return f"returned the sums {', '.join(further)}, which its sum_names do not contain"
    for key, tensor in sums.items():
        if tensor.shape.rank != 0 or tensor.dtype.name != "float32":
            return f"returned {key} as {tensor.dtype.name} with shape {tensor.shape}, not one float32"
    return None


def _wrong_figures(figures: Any, *_: Any) -> str | None:
    if not isinstance(figures, dict):
        return f"returned {type(figures).__name__}, not a dict of numbers"
    wrong = [key for key, value in figures.items() if not isinstance(value, int | float)]
    return f"returned metrics that are not numbers: {', '.join(wrong)}" if wrong else None


def _wrong_metrics(metrics: Any, *_: Any) -> str | None:
    if problem := _wrong_figures(metrics):
        return problem
    return None if "loss" in metrics else "does not return the metric 'loss'"


OBJECTIVES: Registry[type[Objective[Any]]] = Registry(
    "objective",
    "ehr_bert.objectives",
    {
        "masked_codes": "ehr_bert.objectives.masked_codes:MaskedCodes",
        "prolonged_stay": "ehr_bert.objectives.prolonged_stay:ProlongedStay",
    },
    _adopted,
)
"""Classes of objectives by name. The name is that of the objective's table in a recipe."""


def default_objectives() -> list[Objective[Any]]:
    """Return all registered objectives with their default settings, without those that cannot be used."""
    return [objective(name, objective.settings_type()) for name, objective in OBJECTIVES.usable().items()]


DEFAULT_OBJECTIVES = ("masked_codes", "prolonged_stay")
"""Objectives that are trained unless a recipe disables them. Other objectives are trained if the recipe has
their table."""
