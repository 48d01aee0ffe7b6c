"""The tables of a fine-tuning, in Markdown: every model at every training size, and how it compares."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ehr_bert.report.markdown import markdown_table

Results = Mapping[str, Any]
"""What `results.json` holds."""

Row = Mapping[str, Any]
"""One model at one size: an entry of its `table`."""


@dataclass(frozen=True)
class Figure:
    """A figure of a model.

    Attributes:
        key: Its name among the metrics.
        title: Its title.
        best: What it is best at: the largest value, the smallest, or one nearest to a number.
    """

    key: str
    title: str
    best: str | float = "largest"

    def distance(self, value: float) -> float:
        """How far from the best a value is: smaller is better."""
        if isinstance(self.best, str):
            return -value if self.best == "largest" else value
        return abs(value - self.best)


FIGURES = (
    Figure("auroc", "AUROC"),
    Figure("average_precision", "average precision"),
    Figure("brier", "Brier score", best="smallest"),
    Figure("calibration_slope", "calibration slope", best=1.0),
    Figure("calibration_intercept", "calibration intercept", best=0.0),
    Figure("sensitivity_at_specificity", "sensitivity at 95% specificity"),
)

HOW_TO_READ = (
    "Figures are of the test patients: means over the seeds, each with its 95% interval from drawing the "
    "test patients again. The best of a column is bold, whether or not others differ by more than chance. "
    "DeLong's test compares a model with the baseline that did best on the validation patients."
)


def results_text(results: Results) -> str:
    """All tables of a fine-tuning, with their headings.

    Args:
        results: What `results.json` holds.
    """
    table = results["table"]
    parts = [
        f"# {str(results['task']).replace('_', ' ').capitalize()}",
        HOW_TO_READ,
        _splits(results["cohort"]),
        *(by_size(table, figure, results) for figure in FIGURES[:2]),
        *(_at_size(table, size) for size in sizes_of(table)),
        *([_subgroups(results["subgroups"])] if results.get("subgroups") else []),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def sizes_of(table: Iterable[Row]) -> list[int]:
    """The training sizes, rising."""
    return sorted({row["size"] for row in table})


def models_of(table: Iterable[Row]) -> list[str]:
    """The models, in the order in which they were asked for."""
    return list(dict.fromkeys(row["model"] for row in table))


def model_title(model: str) -> str:
    """A model's name for people."""
    return model.replace("_", " ")


def _splits(facts: Mapping[str, Any]) -> str:
    """How many are on each side; nothing where the cohort doesn't tell."""
    splits = facts.get("splits", {})
    if not splits:
        return ""
    tasks = list(next(iter(splits.values())).get("positives", {}))
    rows = [
        [
            name,
            f"{split['patients']:,}",
            f"{split['examples']:,}",
            *(f"{split['positives'][task]:,}" for task in tasks),
        ]
        for name, split in splits.items()
    ]
    return markdown_table(["split", "patients", "examples", *(f"with {task}" for task in tasks)], rows)


def by_size(table: Sequence[Row], figure: Figure, results: Results) -> str:
    """A figure of every model, a column a training size."""
    sizes, models = sizes_of(table), models_of(table)
    rows = {(row["model"], row["size"]): row for row in table}
    columns = [_marked([rows.get((model, size)) for model in models], figure) for size in sizes]
    lines = [[model_title(model), *cells] for model, *cells in zip(models, *columns, strict=True)]
    attainable = results.get("best_attainable_auroc")
    if figure.key == "auroc" and attainable is not None:
        lines.append(["best attainable", *[f"{attainable:.3f}"] * len(sizes)])
    titles = ["trained on", *(f"{size:,}" for size in sizes)]
    return f"## {figure.title} by training size\n\n{markdown_table(titles, lines)}"


def _at_size(table: Sequence[Row], size: int) -> str:
    """All figures of every model at a training size."""
    rows = [row for row in table if row["size"] == size]
    columns = [
        [model_title(row["model"]) for row in rows],
        [str(row["seeds"]) for row in rows],
        *(_marked(rows, figure) for figure in FIGURES),
        [_number(row["auroc"].get("deviation")) for row in rows],
        *_compared(rows),
    ]
    titles = [
        *("model", "seeds", *(figure.title for figure in FIGURES)),
        *("deviation of AUROC over seeds", "AUROC less the baseline's", "p (DeLong)"),
    ]
    baseline = next((row["delong"]["baseline"] for row in rows if row.get("delong")), None)
    against = f"\n\nThe baseline is {model_title(baseline)}." if baseline else ""
    return f"## Trained on {size:,}\n\n{markdown_table(titles, list(zip(*columns, strict=True)))}{against}"


def _compared(rows: Sequence[Row]) -> list[list[str]]:
    """The difference to the baseline and its p value, a column each; empty where there is no comparison."""
    tests = [row.get("delong") for row in rows]
    differences = [
        f"{test['difference']:+.3f} ({test['low']:+.3f} to {test['high']:+.3f})" if test else ""
        for test in tests
    ]
    return [differences, [_p_value(test["p_value"]) if test else "" for test in tests]]


def _subgroups(entries: Sequence[Row]) -> str:
    """The AUROC of each model by group of test patients."""
    models = models_of(entries)
    groups = list(dict.fromkeys(entry["group"] for entry in entries))
    found = {(entry["group"], entry["model"]): entry for entry in entries}
    lines = []
    for group in groups:
        first = next(entry for entry in entries if entry["group"] == group)
        cells = [_interval(found.get((group, model)), "auroc") for model in models]
        lines.append([group, f"{first['examples']:,}", f"{first['positives']:,}", *cells])
    titles = ["group", "examples", "with the outcome", *map(model_title, models)]
    return f"## AUROC by group\n\n{markdown_table(titles, lines)}"


def _marked(rows: Sequence[Row | None], figure: Figure) -> list[str]:
    """A column of figures with their intervals, the best in bold."""
    distances = [math.inf if row is None else _distance(row, figure) for row in rows]
    best = min(distances, default=math.inf)
    return [
        f"**{cell}**" if distance == best < math.inf else cell
        for distance, cell in zip(distances, (_interval(row, figure.key) for row in rows), strict=True)
    ]


def _distance(row: Row, figure: Figure) -> float:
    value = row[figure.key]["value"]
    return math.inf if _unknown(value) else figure.distance(value)


def _interval(row: Row | None, key: str) -> str:
    """A value and its interval; nothing where there is none."""
    if row is None or _unknown(row[key]["value"]):
        return ""
    interval = row[key]
    if _unknown(interval["low"]):
        return f"{interval['value']:.3f}"
    return f"{interval['value']:.3f} ({interval['low']:.3f} to {interval['high']:.3f})"


def _number(value: float | None) -> str:
    return "" if _unknown(value) else f"{value:.3f}"


def _p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _unknown(value: float | None) -> bool:
    """Whether there is no value: JSON has null for NaN."""
    return value is None or math.isnan(value)
