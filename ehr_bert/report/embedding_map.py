"""Map of the tokens of a model, coloured by chapter."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ehr_bert.codes.chapters import CHAPTERS

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#8C6D1F", "#555555")
"""Colour-blind safe palette (Okabe and Ito 2008, with brown and grey instead of yellow and black)."""

MARKERS = ("o", "^", "s")
"""Markers. Chapters use the first marker until the colours repeat, and then the next marker."""

_STYLES = {
    chapter: (COLOURS[n % len(COLOURS)], MARKERS[n // len(COLOURS)]) for n, chapter in enumerate(CHAPTERS)
}


def draw_map(
    places: np.ndarray,
    chapters: np.ndarray,
    files: Sequence[Path],
    caption: str,
    marked: Sequence[tuple[int, str]] = (),
) -> None:
    """Draw the map. The same tokens give the same bytes.

    Args:
        places: Coordinates of the tokens: float64 `[V, 2]`.
        chapters: Chapter of each token, one of `CHAPTERS`: object `[V]`.
        files: Files to write. The suffix determines the format.
        caption: Text above the map.
        marked: Positions of tokens to mark, with their labels.
    """
    with matplotlib.rc_context({"svg.hashsalt": "ehr-bert", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(10.5, 7.5), layout="constrained")
        axes = figure.subplots()
        for chapter in CHAPTERS:
            points = places[chapters == chapter]
            if len(points):
                colour, marker = _STYLES[chapter]
                axes.scatter(
                    points[:, 0],
                    points[:, 1],
                    s=9,
                    c=colour,
                    marker=marker,
                    linewidths=0,
                    alpha=0.75,
                    label=f"{chapter} ({len(points):,})",
                    rasterized=True,
                )
        middle = (places[:, 0].min() + places[:, 0].max()) / 2
        for number, name in marked:
            axes.plot(*places[number], "o", markersize=9, markerfacecolor="none", markeredgecolor="black")
            side = 1 if places[number, 0] < middle else -1
            axes.annotate(
                name,
                places[number],
                xytext=(side * 7, 7),
                textcoords="offset points",
                horizontalalignment="left" if side > 0 else "right",
                in_layout=False,
                parse_math=False,
                bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
            )
        axes.set_title(caption, loc="left")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        axes.margins(0.02)
        figure.legend(loc="outside right upper", frameon=False, markerscale=2.2, fontsize=8.5)
        for file in files:
            metadata = {"Date": None, "Creator": None} if file.suffix == ".svg" else {"Software": None}
            figure.savefig(file, dpi=150, metadata=metadata)
