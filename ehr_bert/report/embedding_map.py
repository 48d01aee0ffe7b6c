"""A model's tokens on a plane, coloured by the chapter that each is of."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ehr_bert.codes.chapters import CHAPTERS

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#8C6D1F", "#555555")
"""Told apart by the colour-blind too (Okabe and Ito 2008, a brown and a grey for yellow and black)."""

MARKERS = ("o", "^", "s")
"""Chapters beyond the colours take the next of these."""

_LOOK = {
    chapter: (COLOURS[n % len(COLOURS)], MARKERS[n // len(COLOURS)]) for n, chapter in enumerate(CHAPTERS)
}


def draw_map(
    places: np.ndarray,
    chapters: np.ndarray,
    files: Sequence[Path],
    caption: str,
    marked: Sequence[tuple[int, str]] = (),
) -> None:
    """Draws the map; the same bytes for the same tokens.

    Args:
        places: float64 `[V, 2]`.
        chapters: One of `CHAPTERS` each: object `[V]`.
        files: Where to write it; the suffix tells the format.
        caption: Stands above it.
        marked: Tokens to point out, and what to call them.
    """
    with matplotlib.rc_context({"svg.hashsalt": "ehr-bert", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(10.5, 7.5), layout="constrained")
        axes = figure.subplots()
        for chapter in CHAPTERS:
            here = places[chapters == chapter]
            if len(here):
                colour, marker = _LOOK[chapter]
                axes.scatter(
                    here[:, 0],
                    here[:, 1],
                    s=9,
                    c=colour,
                    marker=marker,
                    linewidths=0,
                    alpha=0.75,
                    label=f"{chapter} ({len(here):,})",
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
