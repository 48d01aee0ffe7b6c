"""SVG drawings of the page that explains a prediction."""

import base64
import io
from collections.abc import Sequence
from xml.etree.ElementTree import Element

import matplotlib.image
import numpy as np

from ehr_bert.report.html import element

RAISES, LOWERS, INK, RULE = "#c2410c", "#0369a1", "#1f2937", "#d1d5db"
"""Colours of bars that raise or lower the risk (colour-blind safe), of text and of lines."""

COLOURS_OF_ATTENTION = "Purples"

_WIDTH = 900
_LEFT, _RIGHT = 70, 20
"""Margins for the names of rows, and for the name of a narrow last column."""


def signed(value: float) -> str:
    """Format a contribution with its sign."""
    return f"{round(value, 2) + 0.0:+.2f}".replace("-", "\N{MINUS SIGN}")


def bar(value: float, largest: float) -> Element:
    """Draw a contribution as a bar to the right, or to the left if it lowers the risk.

    Args:
        value: Contribution.
        largest: Contribution of the longest bar, above 0.
    """
    half, height = 75, 14
    length = abs(value) / largest * half
    return _drawing(
        2 * half,
        height,
        _rectangle(half if value > 0 else half - length, 2, length, height - 4, _colour(value)),
        _line(half, 0, half, height),
        title=signed(value),
    )


def risk_scale(risk: float, blank_risk: float) -> Element:
    """Draw both risks on a scale from 0 to 100%."""
    height, top, thick = 58, 18, 16
    left, right = sorted((risk * _WIDTH, blank_risk * _WIDTH))
    marks = []
    for value, name, y in ((risk, "this history", 12), (blank_risk, "without codes", height - 6)):
        x = value * _WIDTH
        anchor = "start" if value < 0.1 else "end" if value > 0.9 else "middle"
        marks += [
            _line(x, top - 2, x, top + thick + 2, INK, 2),
            _text(x, y, f"{name} {value:.1%}", anchor),
        ]
    return _drawing(
        _WIDTH,
        height,
        _rectangle(0, top, _WIDTH, thick, "#f3f4f6"),
        _rectangle(left, top, right - left, thick, _colour(risk - blank_risk)),
        *marks,
        title="risk",
    )


def visit_chart(contributions: np.ndarray, names: Sequence[str]) -> Element:
    """Draw the contribution of each visit as a bar, from the first visit to the last.

    Args:
        contributions: float64 `[K]`.
        names: Label of each visit.
    """
    step, highest, label, names_height = 44, 90, 16, 84
    scale = highest / max(np.abs(contributions).max(), 1e-9)
    middle = max(contributions.max(), 0) * scale + label
    under = middle + max(-contributions.min(), 0) * scale + label + 8
    parts = [_line(0, middle, len(names) * step, middle)]
    for number, (value, name) in enumerate(zip(contributions.tolist(), names, strict=True)):
        x, length = number * step + 8, abs(value) * scale
        y = middle - length if value > 0 else middle
        parts.append(_rectangle(x, y, step - 16, length, _colour(value)))
        label_y = y - 4 if value > 0 else y + length + 12
        parts.append(_text(x + (step - 16) / 2, label_y, signed(value), "middle"))
        rotation = f"rotate(-60 {_short(x + 18)} {_short(under)})"
        parts.append(_text(x + 18, under, name, "end", transform=rotation))
    # Margin for the first label, which is rotated to the left.
    return _drawing(
        len(names) * step, under + names_height, *parts, title="contribution of each visit", left=40
    )


def attention_strips(attention: np.ndarray, visits: np.ndarray, names: Sequence[str]) -> Element:
    """Draw the attention of one layer to each code, with a row per head and a column per code.

    Each row is scaled by its largest value.

    Args:
        attention: float32 `[A, C]`.
        visits: Visit of each code, non-decreasing: int64 `[C]`.
        names: Tooltip of each code.
    """
    heads, codes = attention.shape
    row, top = 14, 18
    width = _WIDTH - _LEFT - _RIGHT
    column = width / codes
    bottom = top + heads * row
    largest = np.maximum(attention.max(axis=1, keepdims=True), 1e-12)
    parts = [_image(attention / largest, _LEFT, top, width, heads * row)]
    for head in range(heads):
        parts.append(_text(_LEFT - 8, top + head * row + 11, f"head {head + 1}", "end"))
    starts = np.flatnonzero(np.diff(visits, prepend=-1))
    last_label = -np.inf
    for start in starts.tolist():
        x = _LEFT + start * column
        parts.append(_line(x, top - 4, x, bottom, "#6b7280"))
        if x - last_label >= 24:
            parts.append(_text(x + 2, 11, str(visits[start]), "start"))
            last_label = x
    for code, name in enumerate(names):
        hover_area = _rectangle(_LEFT + code * column, top, column, heads * row, "transparent")
        hover_area.append(element("title", name))
        parts.append(hover_area)
    return _drawing(_WIDTH, bottom + 4, *parts, title="attention to each code")


def heat_map(shares: np.ndarray, title: str) -> Element:
    """Draw a square of attention weights from 0 to 1, from the visit of the row to that of the column.

    Args:
        shares: `[K, K]`.
        title: Tooltip.
    """
    side = 104
    return _drawing(side, side, _image(np.sqrt(shares), 0, 0, side, side), title=title)


def _drawing(width: float, height: float, *parts: Element, title: str, left: float = 0) -> Element:
    return element(
        "svg",
        element("title", title),
        *parts,
        width=_short(width + left),
        height=_short(height),
        viewBox=f"{_short(-left)} 0 {_short(width + left)} {_short(height)}",
        role="img",
    )


def _image(values: np.ndarray, x: float, y: float, width: float, height: float) -> Element:
    """Image with one pixel per value from 0 to 1, scaled up without smoothing."""
    file = io.BytesIO()
    matplotlib.image.imsave(
        file,
        values,
        cmap=COLOURS_OF_ATTENTION,
        vmin=0,
        vmax=1,
        format="png",
        metadata={"Software": "ehr-bert"},
    )
    return element(
        "image",
        href=f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}",
        **_box(x, y, width, height),
        preserveAspectRatio="none",
        style="image-rendering: pixelated",
    )


def _rectangle(x: float, y: float, width: float, height: float, fill: str) -> Element:
    return element("rect", **_box(x, y, width, height), fill=fill)


def _box(x: float, y: float, width: float, height: float) -> dict[str, str]:
    return {"x": _short(x), "y": _short(y), "width": _short(width), "height": _short(height)}


def _line(x1: float, y1: float, x2: float, y2: float, stroke: str = RULE, width: float = 1) -> Element:
    ends = {"x1": _short(x1), "y1": _short(y1), "x2": _short(x2), "y2": _short(y2)}
    return element("line", **ends, stroke=stroke, stroke_width=width)


def _text(x: float, y: float, text: str, anchor: str, **attributes: object) -> Element:
    return element(
        "text", text, x=_short(x), y=_short(y), text_anchor=anchor, font_size=11, fill=INK, **attributes
    )


def _colour(value: float) -> str:
    return RAISES if value > 0 else LOWERS


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
