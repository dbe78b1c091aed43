"""What every figure of the report is drawn on, and how it leaves: SVG for pages, files for papers.

matplotlib is imported here, in `plots` and in `maps`, and nowhere else in the report.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Patch

__all__ = ["INK", "Margins", "Row", "data_uri", "inline_svg", "keys", "page", "save", "styled"]

#: stands for the page's text colour; replaced by `currentColor`, so that dark pages work
INK = "#010203"
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "her2path",
    "font.size": 9,
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
Row = dict[str, Any]
#: margins in inches: left, right, bottom, top (fixed ones; automatic layout costs half the time)
Margins = tuple[float, float, float, float]


def page(width: float, height: float, margins: Margins) -> tuple[Figure, Axes]:
    """Return a figure of a size in inches and its axes inside the margins."""
    figure = Figure(figsize=(width, height))
    left, right, bottom, top = margins
    ax = figure.add_axes(
        (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height)
    )
    return figure, ax


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Let a drawing function draw in the style of the pages."""

    def styled(*args: Any, **kwargs: Any) -> Figure:
        with matplotlib.rc_context(_STYLE):
            return draw(*args, **kwargs)

    styled.__doc__ = draw.__doc__
    return styled


def keys(colours: dict[str, str]) -> list[Patch]:
    """Return legend entries: a colour and its word each."""
    return [Patch(facecolor=c, edgecolor=INK, linewidth=0.5, label=k) for k, c in colours.items()]


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        # "Date": None keeps the bytes the same from run to run
        FigureCanvasSVG(figure).print_figure(
            buffer, format="svg", dpi=144, metadata={"Date": None, "Creator": None}
        )
    return buffer.getvalue()


def inline_svg(figure: Figure, name: str) -> str:
    """Return a figure as SVG for an HTML page: page colours, ids that start with ``name``."""
    text = _svg(figure)
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    text = text.replace(INK, "currentColor").replace("font: 9px", "font-size: 9px")
    return text.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)


def save(figure: Figure, stem: Any) -> list[Any]:
    """Write a figure for a paper: ``stem``.svg and ``stem``.png at 300 dpi, on white."""
    svg, png = stem.with_suffix(".svg"), stem.with_suffix(".png")
    svg.write_text(_svg(figure).replace(INK, "#000000"), encoding="utf-8")
    with matplotlib.rc_context(_STYLE):
        FigureCanvasAgg(figure).print_figure(
            png, dpi=300, facecolor="white", metadata={"Software": None}
        )
    return [svg, png]


def data_uri(data: bytes, kind: str) -> str:
    """Return bytes as a ``data:`` address."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
