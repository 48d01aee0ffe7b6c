"""Trainings compared: what each recipe reaches on held-out patients, over its seeds."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ehr_bert.report.markdown import markdown_table

Figures = Mapping[str, float]
"""Figures of an evaluation by name, as `summary.json` holds them."""


@dataclass(frozen=True)
class RecipeMeasure:
    """One column of the table.

    Attributes:
        key: Its name among the figures.
        title: Its title.
        guess: The name of the figure that who knows nothing of the patient would get.
        lower_is_better: Whether a lower value is.
    """

    key: str
    title: str
    guess: str
    lower_is_better: bool = False


RECIPE_MEASURES = (
    RecipeMeasure("masked_lm_loss", "MLM loss", "code_frequencies_loss", lower_is_better=True),
    RecipeMeasure("masked_lm_accuracy", "MLM accuracy", "code_frequencies_accuracy"),
    RecipeMeasure("masked_lm_accuracy_top_10", "among first 10", "code_frequencies_accuracy_top_10"),
    RecipeMeasure("next_sentence_auroc", "stay AUROC", "prevalence_auroc"),
)

SHARED_FIGURES = ("patients", "code_frequencies_loss", "prevalence_loss")
"""Figures that agree wherever the same held-out codes and patients were looked at."""

NOT_COMPARABLE = (
    "Not all were evaluated on the same masked codes and patients (another corpus, split, vocabulary or "
    "masking): figures can't be compared where those differ."
)


@dataclass(frozen=True)
class Spread:
    """A figure over several seeds.

    Attributes:
        mean: Its mean.
        deviation: Its standard deviation, of the sample; None of a single one.
    """

    mean: float
    deviation: float | None

    def __str__(self) -> str:
        return f"{self.mean:.4f}" + ("" if self.deviation is None else f" ± {self.deviation:.4f}")


@dataclass(frozen=True)
class Comparison:
    """Held-out figures of trainings.

    Attributes:
        by_seed: By recipe and seed, the figures of the training's last evaluation.
    """

    by_seed: Mapping[str, Mapping[int, Figures]]

    def spread(self, recipe: str, key: str) -> Spread | None:
        """A recipe's figure over its seeds; None where a training has none."""
        found = [figures[key] for figures in self.by_seed[recipe].values() if key in figures]
        if not found or len(found) < len(self.by_seed[recipe]):
            return None
        return Spread(statistics.fmean(found), statistics.stdev(found) if len(found) > 1 else None)

    def to_dict(self) -> dict[str, Any]:
        """All figures, by seed and summed up, for JSON."""
        return {
            recipe: {
                "seeds": {str(seed): dict(figures) for seed, figures in seeds.items()},
                **{
                    measure.key: {"mean": spread.mean, "standard_deviation": spread.deviation}
                    for measure in RECIPE_MEASURES
                    if (spread := self.spread(recipe, measure.key))
                },
            }
            for recipe, seeds in self.by_seed.items()
        }

    def __str__(self) -> str:
        """A Markdown table, with the best figure of each column in bold and the second underlined."""
        evaluations = [figures for seeds in self.by_seed.values() for figures in seeds.values()]
        guess = evaluations[0]
        columns = [
            [*self.by_seed, "guessing"],
            [*map(self._updates, self.by_seed), ""],
            [*(str(len(seeds)) for seeds in self.by_seed.values()), ""],
            *(
                [*self._cells(measure), f"{guess[measure.guess]:.4f}" if measure.guess in guess else ""]
                for measure in RECIPE_MEASURES
            ),
        ]
        titles = ["recipe", "updates", "seeds", *(measure.title for measure in RECIPE_MEASURES)]
        table = markdown_table(titles, list(zip(*columns, strict=True)))
        same = len({tuple(figures.get(key) for key in SHARED_FIGURES) for figures in evaluations}) == 1
        return table if same else f"{table}\n\n{NOT_COMPARABLE}"

    def _updates(self, recipe: str) -> str:
        """Updates of a recipe's trainings, which may differ where they end early."""
        updates = [int(figures["step"]) for figures in self.by_seed[recipe].values()]
        return " to ".join(f"{each:,}" for each in sorted({min(updates), max(updates)}))

    def _cells(self, measure: RecipeMeasure) -> list[str]:
        """A measure's column."""
        spreads = [self.spread(recipe, measure.key) for recipe in self.by_seed]
        means = sorted({each.mean for each in spreads if each}, reverse=not measure.lower_is_better)
        marks = dict(zip(means, ("**{}**", "<u>{}</u>"), strict=False))
        return [marks.get(each.mean, "{}").format(each) if each else "" for each in spreads]
