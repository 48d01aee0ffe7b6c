"""Plots of a comparison as PNG and SVG. The same results give the same bytes.

The palette of Okabe and Ito is colour-blind safe, and models also differ in line style and marker. Baselines
have thin lines.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from ehr_bert.files import atomic_files
from ehr_bert.metrics.curves import calibration_bins, precision_recall_curve, roc_curve
from ehr_bert.metrics.net_benefit import decision_curve
from ehr_bert.prediction.contenders.contender import contender
from ehr_bert.report.prediction_tables import (
    Results,
    model_title,
    models_of,
    sizes_of,
    tested_on,
    title_of,
)

Predictions = tuple[np.ndarray, np.ndarray]
"""Labels and probabilities of the same examples: `[N]` each."""

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LINES = ("-", "--", "-.", ":")
_MARKS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "h")
_GUIDE: dict[str, Any] = {"color": "0.6", "linewidth": 1, "linestyle": (0, (4, 3)), "zorder": 1}
_NO_DATE: dict[str, dict[str, None]] = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
_LARGEST_THRESHOLD = 0.99
_SPREAD = 0.5
"""Share of the gap between two training sizes over which the models are spread."""


def write_plots(results: Results, curves: Mapping[str, Predictions], folder: Path) -> list[Path]:
    """Draw the learning curve and the ROC, precision-recall, calibration and decision curves.

    Args:
        results: Content of `results.json`.
        curves: Predictions by model. Without any, only the learning curve is drawn.
        folder: Folder for `learning_curve.png`, `learning_curve.svg` and so on.

    Returns:
        Paths of the written files.
    """
    styles = _styles([*models_of(results["table"]), *curves])
    sizes, tested = sizes_of(results["table"]), f"tested on {tested_on(results)}"
    plots: dict[str, Callable[[Axes], None]] = {
        "learning_curve": lambda axes: _draw_learning_curve(axes, results, styles)
    }
    if curves:
        plots |= {
            "roc": lambda axes: _draw_roc(axes, curves, styles),
            "precision_recall": lambda axes: _draw_precision_recall(axes, curves, styles),
            "calibration": lambda axes: _draw_calibration(axes, curves, styles),
            "decision_curve": lambda axes: _draw_decision_curve(axes, curves, styles),
        }
    trained = {name: f"{sizes[-1]:,} training patients, " for name in plots if name != "learning_curve"}
    return [
        path
        for name, draw in plots.items()
        for path in _write_plot(draw, f"{title_of(results)}\n{trained.get(name, '')}{tested}", folder / name)
    ]


def _write_plot(draw: Callable[[Axes], None], title: str, stem: Path) -> list[Path]:
    """Write one plot as PNG and SVG."""
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in _NO_DATE]
    settings = matplotlib.rc_context({"svg.hashsalt": "ehr-bert", "svg.fonttype": "none", "font.size": 9})
    with settings, atomic_files(*paths) as temporaries:
        figure = Figure(figsize=(9, 5), layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes)
        axes.set_title(title, fontsize=9, loc="left", wrap=True)
        figure.legend(loc="outside right center", frameon=False)
        for temporary, (suffix, metadata) in zip(temporaries, _NO_DATE.items(), strict=True):
            figure.savefig(temporary, format=suffix, dpi=150, metadata=metadata)
    return paths


def _styles(models: list[str]) -> dict[str, dict[str, Any]]:
    """Style of each model in all plots."""
    return {
        model: {
            "color": _COLOURS[index % len(_COLOURS)],
            "linestyle": _LINES[index // len(_COLOURS) % len(_LINES)],
            "marker": _MARKS[index % len(_MARKS)],
            "markersize": 4,
            "linewidth": 1.0 if contender(model).is_baseline else 2.0,
            "label": model_title(model),
        }
        for index, model in enumerate(dict.fromkeys(models))
    }


def _draw_learning_curve(axes: Axes, results: Results, styles: Mapping[str, dict[str, Any]]) -> None:
    """Draw the AUROC with intervals over the training size, and the best attainable AUROC if it is known."""
    table = results["table"]
    sizes, models = sizes_of(table), models_of(table)
    gap = min(np.diff(np.log(sizes)), default=1.0)
    for index, model in enumerate(models):
        rows = sorted((row for row in table if row["model"] == model), key=lambda row: row["size"])
        # Models are spread horizontally, so that their intervals do not overlap.
        shift = np.exp(_SPREAD * gap * (index / max(1, len(models) - 1) - 0.5))
        positions = [row["size"] * shift for row in rows]
        value, low, high = (
            np.array([row["auroc"][key] for row in rows], float) for key in ("value", "low", "high")
        )
        reach = np.stack([value - low, high - value])
        axes.errorbar(positions, value, reach, elinewidth=0.7, capsize=1.5, **styles[model])
    if results.get("best_attainable_auroc") is not None:
        axes.axhline(results["best_attainable_auroc"], label="best attainable", **_GUIDE)
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="training patients", ylabel="test AUROC (95% confidence interval)")


def _draw_roc(axes: Axes, curves: Mapping[str, Predictions], styles: Mapping[str, dict[str, Any]]) -> None:
    for model, predictions in curves.items():
        curve = roc_curve(*predictions)
        axes.plot(curve.x, curve.y, **styles[model] | {"marker": ""})
    axes.plot([0, 1], [0, 1], **_GUIDE)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(0, 1), ylim=(0, 1), aspect="equal")


def _draw_precision_recall(
    axes: Axes, curves: Mapping[str, Predictions], styles: Mapping[str, dict[str, Any]]
) -> None:
    for model, predictions in curves.items():
        curve = precision_recall_curve(*predictions)
        first = int(np.argmax(curve.x > 0))  # precision is undefined before it
        axes.plot(curve.x[first:], curve.y[first:], drawstyle="steps-pre", **styles[model] | {"marker": ""})
    axes.axhline(_prevalence(curves), **_GUIDE)
    axes.set(xlabel="recall (sensitivity)", ylabel="precision", xlim=(0, 1), ylim=(0, 1))


def _draw_calibration(
    axes: Axes, curves: Mapping[str, Predictions], styles: Mapping[str, dict[str, Any]]
) -> None:
    largest = 0.0
    for model, predictions in curves.items():
        bins = calibration_bins(*predictions)
        axes.plot(bins.predicted, bins.observed, **styles[model])
        largest = max(largest, float(bins.predicted.max()), float(bins.observed.max()))
    end = min(1.0, 1.05 * largest)
    axes.plot([0, end], [0, end], **_GUIDE)
    axes.set(
        xlabel="mean predicted risk (ten groups of ascending risk)",
        ylabel="share of cases",
        xlim=(0, end),
        ylim=(0, end),
        aspect="equal",
    )


def _draw_decision_curve(
    axes: Axes, curves: Mapping[str, Predictions], styles: Mapping[str, dict[str, Any]]
) -> None:
    largest = max(float(np.quantile(probabilities, 0.99)) for _, probabilities in curves.values())
    threshold = np.linspace(0, min(_LARGEST_THRESHOLD, largest), 101)
    for model, predictions in curves.items():
        curve = decision_curve(*predictions, threshold)
        axes.plot(threshold, curve.model, **styles[model] | {"marker": ""})
    axes.plot(threshold, curve.everyone, label="treat all", **_GUIDE)
    axes.axhline(0, label="treat none", **_GUIDE | {"linestyle": (0, (1, 2))})
    prevalence = _prevalence(curves)
    axes.set(xlabel="risk threshold", ylabel="net benefit", ylim=(-0.1 * prevalence, 1.1 * prevalence))


def _prevalence(curves: Mapping[str, Predictions]) -> float:
    labels, _ = next(iter(curves.values()))
    return float(np.mean(labels))
