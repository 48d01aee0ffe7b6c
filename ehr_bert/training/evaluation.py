"""Evaluation of a model on held-out examples. Each metric is shown with its value for a trivial baseline."""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from ehr_bert.examples.updates import UpdateBatches
from ehr_bert.files import atomic_files
from ehr_bert.model.pretraining import PretrainingModel
from ehr_bert.objectives.objective import Objective
from ehr_bert.training.recipe import Recipe
from ehr_bert.training.record.folder import TrainingFolder
from ehr_bert.training.record.metrics_log import MetricsLog
from ehr_bert.training.record.writing import writing
from ehr_bert.training.step import build_eval_step
from ehr_bert.training.streams import distributed_cells
from ehr_bert.vocabulary import Vocabulary


@dataclass(frozen=True)
class ObjectiveResult:
    """Metrics of one objective on a set of examples.

    Attributes:
        objective: The objective. It is ignored when results are compared.
        metrics: Metrics of the model by name; NaN where one is not defined.
        baseline: Metrics of the objective's baseline.
    """

    objective: Objective[Any] = field(compare=False)
    metrics: Mapping[str, float]
    baseline: Mapping[str, float]

    def __str__(self) -> str:
        metrics = ", ".join(
            f"{metric.title} {self.metrics[metric.key]:.4f}"
            + (f" ({self.baseline[metric.key]:.4f})" if metric.key in self.baseline else "")
            for metric in self.objective.shown_metrics
            if metric.key in self.metrics
        )
        return f"{self.objective.title:<14}  {metrics}"


@dataclass(frozen=True)
class EvaluationResult:
    """Result of an evaluation.

    Attributes:
        global_step: Number of updates of the model.
        patients: Number of patients evaluated.
        loss: Sum of the objectives' losses, each multiplied by its weight, as in training.
        objectives: Results of the enabled objectives, by name.
    """

    global_step: int
    patients: int
    loss: float
    objectives: Mapping[str, ObjectiveResult]

    def figures(self) -> dict[str, float]:
        """Return all metrics by name, without those that are not finite."""
        metrics: dict[str, float] = {"loss": self.loss, "patients": self.patients}
        for result in self.objectives.values():
            for prefix, values in (
                (result.objective.prefix, result.metrics),
                (result.objective.baseline_prefix, result.baseline),
            ):
                metrics |= {f"{prefix}_{key}": value for key, value in values.items() if math.isfinite(value)}
        return metrics

    def published(self) -> dict[str, float]:
        """Return the metrics of `eval_results.txt`, under the names of the original program."""
        metrics: dict[str, float] = {"global_step": self.global_step, "loss": self.loss}
        for result in self.objectives.values():
            prefix, keys = result.objective.prefix, result.objective.published_metrics or result.metrics
            metrics |= {f"{prefix}_{key}": result.metrics[key] for key in keys}
        return metrics

    def __str__(self) -> str:
        first = f"after {self.global_step:,} steps, on {self.patients:,} patients (baseline in brackets):"
        return "\n".join([first, *(f"  {result}" for result in self.objectives.values())])


class Evaluator:
    """Evaluates one model on the same batches at each call.

    Args:
        strategy: Strategy under which the model was built.
        model: The model.
        batches: Batches of `ExampleSet.evaluation`.
        recipe: The recipe, for its objectives.
        vocabulary: Provides the number of occurrences of each token in training. If it is None or has no
            counts, the baseline uses the frequencies of the masked codes themselves.
        compiled: As in `build_eval_step`.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model: PretrainingModel,
        batches: UpdateBatches,
        recipe: Recipe,
        *,
        vocabulary: Vocabulary | None,
        compiled: bool,
    ):
        self._strategy = strategy
        self._batches = batches
        self._objectives = recipe.enabled_objectives()
        self._step = build_eval_step(strategy, model, batches.layout, self._objectives, compiled)
        self._occurrences = np.zeros(model.config.vocab_size or 0, np.int64)  # [V]
        if vocabulary:
            self._occurrences[: len(vocabulary)] = vocabulary.occurrences

    def __call__(self, step: int) -> EvaluationResult:
        """Evaluate the current model after `step` updates."""
        patients = 0.0
        sums: dict[str, dict[str, Any]] = {name: defaultdict(float) for name in self._objectives}
        rows: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in self._objectives}
        cells = iter(distributed_cells(self._strategy, self._batches))
        for _ in range(self._batches.steps or 0):
            batch_sums, objective_sums, predictions = self._step(next(cells))
            patients += float(batch_sums["patients"])
            for name, values in objective_sums.items():
                for key, value in values.items():
                    sums[name][key] = sums[name][key] + value.numpy().astype(np.float64)
            for name, tensors in predictions.items():
                rows[name].append({key: value.numpy() for key, value in tensors.items()})
        results = {
            name: self._result(objective, sums[name], rows[name])
            for name, objective in self._objectives.items()
        }
        losses = (result.metrics["loss"] * result.objective.settings.weight for result in results.values())
        return EvaluationResult(step, int(patients), sum(losses), results)

    def _result(
        self, objective: Objective[Any], sums: Mapping[str, Any], rows: list[dict[str, np.ndarray]]
    ) -> ObjectiveResult:
        predictions: dict[str, np.ndarray] = {}
        if rows:
            joined = {key: np.concatenate([part[key] for part in rows]) for key in rows[0]}
            is_used = joined.pop("weights") > 0
            predictions = {key: values[is_used] for key, values in joined.items()}
        return ObjectiveResult(
            objective,
            objective.metrics(sums, predictions),
            objective.baseline(sums, predictions, self._occurrences),
        )


def write_eval_results(folder: TrainingFolder, result: EvaluationResult) -> None:
    """Write `eval_results.txt`.

    Raises:
        UserError: The file cannot be written.
    """
    file = folder.eval_results_file
    with writing(file), atomic_files(file) as (temporary,):
        lines = [f"{key} = {value}\n" for key, value in result.published().items()]
        temporary.write_text("".join(lines), encoding="utf-8")


def record_evaluation(folder: TrainingFolder, result: EvaluationResult) -> None:
    """Record an evaluation without training in the training folder.

    Raises:
        UserError: A file cannot be written.
    """
    MetricsLog(folder).write(result.global_step, "eval", result.figures())
    write_eval_results(folder, result)
