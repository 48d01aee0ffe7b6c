"""Comparison of training runs: held-out metrics of each recipe over its seeds."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ehr_bert.objectives import default_objectives
from ehr_bert.report.markdown import markdown_table

Figures = Mapping[str, float]
"""Metrics of an evaluation by name, as in `summary.json`."""


@dataclass(frozen=True)
class RecipeMetric:
    """A metric of the table that compares recipes: one column.

    Attributes:
        key: Name of the metric.
        title: Title of the column.
        baseline: Name of the same metric for the baseline: training frequencies of codes, or prevalence.
        lower_is_better: Whether lower values are better.
    """

    key: str
    title: str
    baseline: str
    lower_is_better: bool = False


def recipe_metrics() -> list[RecipeMetric]:
    """Return the columns of the known objectives."""
    return [
        RecipeMetric(
            f"{objective.prefix}_{metric.key}",
            f"{objective.title}: {metric.title}",
            f"{objective.baseline_prefix}_{metric.key}",
            metric.lower_is_better,
        )
        for objective in default_objectives()
        for metric in objective.shown_metrics
        if metric.compared
    ]


NOT_COMPARABLE = (
    "These recipes were not all evaluated on the same masked codes and patients. Metrics of different "
    "corpora, splits, vocabularies or masking settings are not comparable."
)


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of a metric over seeds.

    Attributes:
        mean: Mean.
        deviation: Sample standard deviation. None for a single seed.
    """

    mean: float
    deviation: float | None

    def __str__(self) -> str:
        return f"{self.mean:.4f}" + ("" if self.deviation is None else f" ± {self.deviation:.4f}")


@dataclass(frozen=True)
class Comparison:
    """Held-out metrics of several recipes.

    Attributes:
        by_seed: Metrics of the last evaluation of each training run, by recipe and seed.
    """

    by_seed: Mapping[str, Mapping[int, Figures]]

    def spread(self, recipe: str, key: str) -> Spread | None:
        """Return the spread of a metric over the seeds of a recipe; None if a training run has no value."""
        values = [figures[key] for figures in self.by_seed[recipe].values() if key in figures]
        if not values or len(values) < len(self.by_seed[recipe]):
            return None
        return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)

    def to_dict(self) -> dict[str, Any]:
        """Return all metrics by seed, and their spread, for JSON."""
        return {
            recipe: {
                "seeds": {str(seed): dict(figures) for seed, figures in seeds.items()},
                **{
                    metric.key: {"mean": spread.mean, "standard_deviation": spread.deviation}
                    for metric in recipe_metrics()
                    if (spread := self.spread(recipe, metric.key))
                },
            }
            for recipe, seeds in self.by_seed.items()
        }

    def __str__(self) -> str:
        """Return a Markdown table. The best value of each column is bold and the second best underlined."""
        evaluations = [figures for seeds in self.by_seed.values() for figures in seeds.values()]
        baseline = evaluations[0]
        metrics = [
            metric for metric in recipe_metrics() if any(metric.key in figures for figures in evaluations)
        ]
        columns = [
            [*self.by_seed, "baseline"],
            [*map(self._updates, self.by_seed), ""],
            [*(str(len(seeds)) for seeds in self.by_seed.values()), ""],
            *(
                [
                    *self._cells(metric),
                    f"{baseline[metric.baseline]:.4f}" if metric.baseline in baseline else "",
                ]
                for metric in metrics
            ),
        ]
        titles = ["recipe", "updates", "seeds", *(metric.title for metric in metrics)]
        table = markdown_table(titles, list(zip(*columns, strict=True)))
        shared = ("patients", *(f"{objective.baseline_prefix}_loss" for objective in default_objectives()))
        same = len({tuple(figures.get(key) for key in shared) for figures in evaluations}) == 1
        return table if same else f"{table}\n\n{NOT_COMPARABLE}"

    def _updates(self, recipe: str) -> str:
        """Return the number of updates of a recipe's training runs, or their range after early stopping."""
        updates = [int(figures["step"]) for figures in self.by_seed[recipe].values()]
        return " to ".join(f"{count:,}" for count in sorted({min(updates), max(updates)}))

    def _cells(self, metric: RecipeMetric) -> list[str]:
        """Return the column of a metric."""
        spreads = [self.spread(recipe, metric.key) for recipe in self.by_seed]
        means = sorted({spread.mean for spread in spreads if spread}, reverse=not metric.lower_is_better)
        marks = dict(zip(means, ("**{}**", "<u>{}</u>"), strict=False))
        return [marks.get(spread.mean, "{}").format(spread) if spread else "" for spread in spreads]
