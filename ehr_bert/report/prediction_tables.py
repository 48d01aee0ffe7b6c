"""The tables of a fine-tuning, in Markdown: every model at every training size, and how it compares."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ehr_bert.report.markdown import markdown_table
from ehr_bert.schemas import LABEL

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


TABLE_FIGURES = (
    Figure("auroc", "AUROC"),
    Figure("average_precision", "average precision"),
    Figure("brier", "Brier score", best="smallest"),
    Figure("calibration_slope", "calibration slope", best=1.0),
    Figure("calibration_intercept", "calibration intercept", best=0.0),
    Figure("sensitivity_at_specificity", "sensitivity at 95% specificity"),
)

DISCRIMINATION = ("auroc", "average_precision", "sensitivity_at_specificity")
"""Figures of whether those with the outcome are ranked above others; the rest tell of how high risks are."""


def results_text(results: Results) -> str:
    """All tables of a fine-tuning, with their headings.

    Args:
        results: What `results.json` holds.
    """
    table = results["table"]
    parts = [
        f"# {title_of(results)}",
        f"Tested on {tested_on(results)}.",
        _splits(results),
        _how_to_read(results),
        by_size(table, TABLE_FIGURES[0], results),
        _against_baseline_by_size(table),
        by_size(table, TABLE_FIGURES[1], results),
        *(_at_size(table, size) for size in sizes_of(table)),
        *([_subgroups(results)] if results.get("subgroups") else []),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def title_of(results: Results) -> str:
    """What is predicted: the title of the cohort's definition, and the task where it isn't the only one."""
    title = results["cohort"].get("definition", {}).get("title")
    task = model_title(results["task"])
    if not title:
        return f"Prediction of {task}"
    return title if results["task"] == LABEL else f"{title}: {task}"


def tested_on(results: Results) -> str:
    """How many test examples there are, and how many with the outcome."""
    test = results["test"]
    who = f"{test['patients']:,} patients"
    if test["patients"] != test["examples"]:
        who = f"{test['examples']:,} examples of {who}"
    return f"{who}, {test['positives']:,} with the outcome"


def _how_to_read(results: Results) -> str:
    several = results["test"]["patients"] != results["test"]["examples"]
    texts = [
        "Figures are of the test split, means over the seeds. In brackets are 95% intervals: the middle 95% "
        f"of {results['replicates']:,} draws of the test patients with replacement"
        f"{', all examples of a patient together' if several else ''}. They tell what other test patients "
        "would change; the deviation over seeds tells what other training patients and other starts would. "
        "The best of a column is bold, whether or not others differ by more than chance.",
        "Differences are from the baseline of the highest AUROC on the validation split at that size. Their "
        "intervals and two-sided p values are of DeLong's paired test on the same test patients, not "
        "corrected for the number of comparisons."
        if any(row.get("delong") for row in results["table"])
        else "",
        "There is no test against the baseline: DeLong's doesn't hold where patients have several examples."
        if several
        else "",
        "**Runs are missing**: some figures are of fewer seeds than others, as the tables by size tell."
        if len({row["seeds"] for row in results["table"]}) > 1
        else "",
    ]
    return "\n\n".join(filter(None, texts))


def sizes_of(table: Iterable[Row]) -> list[int]:
    """The training sizes, rising."""
    return sorted({row["size"] for row in table})


def models_of(table: Iterable[Row]) -> list[str]:
    """The models, in the order in which they were asked for."""
    return list(dict.fromkeys(row["model"] for row in table))


def model_title(model: str) -> str:
    """A model's name for people."""
    return model.replace("_", " ")


def _splits(results: Results) -> str:
    """How many are on each side; nothing where the cohort doesn't tell."""
    task = results["task"]
    rows = []
    for name, side in results["cohort"].get("splits", {}).items():
        counts = (side["patients"], side["examples"], side["labels"][task], side["positives"][task])
        rows.append([name, *(f"{count:,}" for count in counts)])
    titles = ["split", "patients", "examples", "outcome known", "with the outcome"]
    return markdown_table(titles, rows) if rows else ""


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
    title = figure.title[0].upper() + figure.title[1:]
    return f"## {title} by training size\n\n{markdown_table(titles, lines)}"


def _against_baseline_by_size(table: Sequence[Row]) -> str:
    """The difference in AUROC to the best baseline, a column a training size; nothing without comparisons."""
    sizes, models = sizes_of(table), models_of(table)
    rows = {(row["model"], row["size"]): row for row in table}
    baselines = [_baseline([row for row in table if row["size"] == size]) for size in sizes]
    if not any(baselines):
        return ""
    lines = [
        [model_title(model), *(_difference(rows.get((model, size))) for size in sizes)] for model in models
    ]
    lines.append(["the baseline", *(model_title(baseline or "") for baseline in baselines)])
    titles = ["trained on", *(f"{size:,}" for size in sizes)]
    return f"## AUROC less the best baseline's\n\n{markdown_table(titles, lines)}"


def _difference(row: Row | None) -> str:
    test = row and row.get("delong")
    return f"{test['difference']:+.3f} (p {_p_value(test['p_value'])})" if test else ""


def _at_size(table: Sequence[Row], size: int) -> str:
    """All figures of every model at a training size."""
    rows = [row for row in table if row["size"] == size]
    baseline = _baseline(rows)
    ranking = {
        figure.title: _marked(rows, figure) for figure in TABLE_FIGURES if figure.key in DISCRIMINATION
    }
    ranking |= {
        "validation AUROC": [_number(row["valid_auroc"]) for row in rows],
        "AUROC's deviation over seeds": [_number(row["auroc"].get("deviation")) for row in rows],
    }
    if baseline:
        ranking |= dict(zip(("AUROC less the baseline's", "p (DeLong)"), _compared(rows), strict=True))
    heights = {
        figure.title: _marked(rows, figure) for figure in TABLE_FIGURES if figure.key not in DISCRIMINATION
    }
    parts = [
        f"## Trained on {size:,}",
        _of_models(rows, {"seeds": [str(row["seeds"]) for row in rows]} | ranking),
        f"The baseline is {model_title(baseline)}." if baseline else "",
        "### Calibration",
        _of_models(rows, heights),
    ]
    return "\n\n".join(filter(None, parts))


def _of_models(rows: Sequence[Row], columns: Mapping[str, Sequence[str]]) -> str:
    """A table with a line a model: its columns by their titles."""
    cells = zip((model_title(row["model"]) for row in rows), *columns.values(), strict=True)
    return markdown_table(["model", *columns], list(cells))


def _baseline(rows: Sequence[Row]) -> str | None:
    """The baseline that models of one size are compared with."""
    return next((row["delong"]["baseline"] for row in rows if row.get("delong")), None)


def _compared(rows: Sequence[Row]) -> list[list[str]]:
    """The difference to the baseline and its p value, a column each; empty where there is no comparison."""
    tests = [row.get("delong") for row in rows]
    differences = [
        f"{test['difference']:+.3f} ({test['low']:+.3f} to {test['high']:+.3f})" if test else ""
        for test in tests
    ]
    return [differences, [_p_value(test["p_value"]) if test else "" for test in tests]]


def _subgroups(results: Results) -> str:
    """The AUROC of each model by group of test patients."""
    entries: Sequence[Row] = results["subgroups"]
    models = models_of(entries)
    groups = list(dict.fromkeys(entry["group"] for entry in entries))
    found = {(entry["group"], entry["model"]): entry for entry in entries}
    lines = []
    for group in groups:
        first = next(entry for entry in entries if entry["group"] == group)
        cells = [_interval(found.get((group, model)), "auroc") for model in models]
        lines.append([group, f"{first['examples']:,}", f"{first['positives']:,}", *cells])
    titles = ["group", "examples", "with the outcome", *map(model_title, models)]
    told = (
        f"Of the models trained on {sizes_of(results['table'])[-1]:,}: the best baseline, and those that "
        "owe to the pretraining."
    )
    return f"## AUROC by group\n\n{told}\n\n{markdown_table(titles, lines)}"


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
