"""Markdown tables of a comparison: all metrics of every model at every training size."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ehr_bert.metrics.metric import DISCRIMINATION, METRICS, Metric
from ehr_bert.report.markdown import markdown_table
from ehr_bert.schemas import LABEL

Results = Mapping[str, Any]
"""Content of `results.json`."""

Row = Mapping[str, Any]
"""One model at one training size: an entry of its `table`."""


def results_text(results: Results) -> str:
    """Return all tables of a comparison with their headings.

    Args:
        results: Content of `results.json`.
    """
    table = results["table"]
    parts = [
        f"# {title_of(results)}",
        f"Tested on {tested_on(results)}.",
        _splits(results),
        _how_to_read(results),
        by_size(table, METRICS["auroc"], results),
        _differences_by_size(table),
        by_size(table, METRICS["average_precision"], results),
        *(_at_size(table, size) for size in sizes_of(table)),
        *([_subgroups(results)] if results.get("subgroups") else []),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def title_of(results: Results) -> str:
    """Return the title of the cohort's definition, with the task if it is not the only one."""
    title = results["cohort"].get("definition", {}).get("title")
    task = model_title(results["task"])
    if not title:
        return f"Prediction of {task}"
    return title if results["task"] == LABEL else f"{title}: {task}"


def tested_on(results: Results) -> str:
    """Return the number of test patients, examples and cases in words."""
    test = results["test"]
    examples = f"{test['patients']:,} patients"
    if test["patients"] != test["examples"]:
        examples = f"{test['examples']:,} examples of {examples}"
    return f"{examples} ({test['positives']:,} cases)"


def _how_to_read(results: Results) -> str:
    has_repeated_patients = results["test"]["patients"] != results["test"]["examples"]
    texts = [
        "Values are means over the seeds on the test split. Brackets contain 95% confidence intervals from "
        f"{results['replicates']:,} bootstrap replicates of the test patients"
        f"{', with all examples of a patient together' if has_repeated_patients else ''}. The intervals "
        "describe the variation over test patients. The standard deviation (SD) over seeds describes the "
        "variation over training patients and random initialisations. The best value of each column is bold, "
        "whether or not the difference is significant.",
        "Differences are from the baseline with the highest validation AUROC at the same training size. "
        "Their intervals and two-sided p values are from DeLong's paired test on the same test patients, "
        "without correction for multiple comparisons."
        if any(row.get("delong") for row in results["table"])
        else "",
        "There is no test against the baseline: DeLong's test is not valid for several examples per patient."
        if has_repeated_patients
        else "",
        "**Some runs are missing**: models have different numbers of seeds (see the tables by training size)."
        if len({row["seeds"] for row in results["table"]}) > 1
        else "",
    ]
    return "\n\n".join(filter(None, texts))


def sizes_of(table: Iterable[Row]) -> list[int]:
    """Return the training sizes in ascending order."""
    return sorted({row["size"] for row in table})


def models_of(table: Iterable[Row]) -> list[str]:
    """Return the models in the order of the table."""
    return list(dict.fromkeys(row["model"] for row in table))


def model_title(model: str) -> str:
    """Return the name of a model or task with spaces instead of underscores."""
    return model.replace("_", " ")


def _splits(results: Results) -> str:
    """Return a table of the sizes of the splits; empty if the cohort's summary has none."""
    task = results["task"]
    rows = []
    for name, split in results["cohort"].get("splits", {}).items():
        counts = (split["patients"], split["examples"], split["labels"][task], split["positives"][task])
        rows.append([name, *(f"{count:,}" for count in counts)])
    return markdown_table(["split", "patients", "examples", "known labels", "cases"], rows) if rows else ""


def by_size(table: Sequence[Row], metric: Metric, results: Results) -> str:
    """Return a table of one metric with a row per model and a column per training size."""
    sizes, models = sizes_of(table), models_of(table)
    rows = {(row["model"], row["size"]): row for row in table}
    columns = [_metric_column([rows.get((model, size)) for model in models], metric) for size in sizes]
    lines = [[model_title(model), *cells] for model, *cells in zip(models, *columns, strict=True)]
    attainable = results.get("best_attainable_auroc")
    if metric.key == "auroc" and attainable is not None:
        lines.append(["best attainable", *[f"{attainable:.3f}"] * len(sizes)])
    return f"## {_heading(metric.title)} by training size\n\n{markdown_table(_size_titles(sizes), lines)}"


def _size_titles(sizes: Iterable[int]) -> list[str]:
    return ["training patients", *(f"{size:,}" for size in sizes)]


def _heading(title: str) -> str:
    return title[0].upper() + title[1:]


def _differences_by_size(table: Sequence[Row]) -> str:
    """Return a table of AUROC differences from the best baseline by size; empty without DeLong tests."""
    sizes, models = sizes_of(table), models_of(table)
    rows = {(row["model"], row["size"]): row for row in table}
    baselines = [_baseline([row for row in table if row["size"] == size]) for size in sizes]
    if not any(baselines):
        return ""
    lines = [
        [model_title(model), *(_difference(rows.get((model, size))) for size in sizes)] for model in models
    ]
    lines.append(["best baseline", *(model_title(baseline or "") for baseline in baselines)])
    return f"## AUROC difference from the best baseline\n\n{markdown_table(_size_titles(sizes), lines)}"


def _difference(row: Row | None) -> str:
    test = row and row.get("delong")
    return f"{test['difference']:+.3f} (p {_p_value(test['p_value'])})" if test else ""


def _at_size(table: Sequence[Row], size: int) -> str:
    """Return tables of all metrics of every model at one training size, one table per group of metrics."""
    rows = [row for row in table if row["size"] == size]
    baseline = _baseline(rows)
    groups: dict[str, dict[str, list[str]]] = {DISCRIMINATION: {}}
    for metric in METRICS.usable().values():
        groups.setdefault(metric.group, {})[metric.title] = _metric_column(rows, metric)
    discrimination = groups.pop(DISCRIMINATION) | {
        "validation AUROC": [_number(row["valid_auroc"]) for row in rows],
        "SD of AUROC over seeds": [_number(row["auroc"].get("deviation")) for row in rows],
    }
    if baseline:
        titles = ("AUROC difference from the baseline", "p (DeLong)")
        discrimination |= dict(zip(titles, _delong_columns(rows), strict=True))
    parts = [
        f"## {size:,} training patients",
        _model_table(rows, {"seeds": [str(row["seeds"]) for row in rows]} | discrimination),
        f"The baseline is {model_title(baseline)}." if baseline else "",
        *(f"### {_heading(group)}\n\n{_model_table(rows, columns)}" for group, columns in groups.items()),
    ]
    return "\n\n".join(filter(None, parts))


def _model_table(rows: Sequence[Row], columns: Mapping[str, Sequence[str]]) -> str:
    """Return a table with one row per model, and columns by their titles."""
    cells = zip((model_title(row["model"]) for row in rows), *columns.values(), strict=True)
    return markdown_table(["model", *columns], list(cells))


def _baseline(rows: Sequence[Row]) -> str | None:
    """Return the baseline with which the models of one training size are compared."""
    return next((row["delong"]["baseline"] for row in rows if row.get("delong")), None)


def _delong_columns(rows: Sequence[Row]) -> list[list[str]]:
    """Return columns of the differences from the baseline and of the p values; empty cells without a test."""
    tests = [row.get("delong") for row in rows]
    differences = [
        f"{test['difference']:+.3f} ({test['low']:+.3f} to {test['high']:+.3f})" if test else ""
        for test in tests
    ]
    return [differences, [_p_value(test["p_value"]) if test else "" for test in tests]]


def _subgroups(results: Results) -> str:
    """Return a table of the AUROC of each model by subgroup."""
    entries: Sequence[Row] = results["subgroups"]
    models = models_of(entries)
    by_group_and_model = {(entry["group"], entry["model"]): entry for entry in entries}
    first_entries = {entry["group"]: entry for entry in reversed(entries)}
    lines = [
        [
            group,
            f"{first_entries[group]['examples']:,}",
            f"{first_entries[group]['positives']:,}",
            *(_interval(by_group_and_model.get((group, model)), "auroc") for model in models),
        ]
        for group in dict.fromkeys(entry["group"] for entry in entries)
    ]
    titles = ["group", "examples", "cases", *map(model_title, models)]
    largest = sizes_of(results["table"])[-1]
    caption = f"The best baseline and the pretrained models at {largest:,} training patients."
    return f"## AUROC by subgroup\n\n{caption}\n\n{markdown_table(titles, lines)}"


def _metric_column(rows: Sequence[Row | None], metric: Metric) -> list[str]:
    """Return the cells of a metric with its intervals, the best in bold."""
    distances = [math.inf if row is None else _distance(row, metric) for row in rows]
    best = min(distances, default=math.inf)
    return [
        f"**{cell}**" if distance == best < math.inf else cell
        for distance, cell in zip(distances, (_interval(row, metric.key) for row in rows), strict=True)
    ]


def _distance(row: Row, metric: Metric) -> float:
    value = row[metric.key]["value"]
    return math.inf if _is_undefined(value) else metric.distance(value)


def _interval(row: Row | None, key: str) -> str:
    """Format a value and its interval; empty if undefined."""
    if row is None or _is_undefined(row[key]["value"]):
        return ""
    interval = row[key]
    if _is_undefined(interval["low"]):
        return f"{interval['value']:.3f}"
    return f"{interval['value']:.3f} ({interval['low']:.3f} to {interval['high']:.3f})"


def _number(value: float | None) -> str:
    return "" if _is_undefined(value) else f"{value:.3f}"


def _p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _is_undefined(value: float | None) -> bool:
    """Return whether a value is NaN, which is null in JSON."""
    return value is None or math.isnan(value)
