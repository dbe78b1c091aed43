"""Figures from plain values; matplotlib is imported here and nowhere else in the report."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
import shapely
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from her2path.palette import AREA_COLOURS, PATTERN_COLOURS, SCORE_COLOURS, WORDS
from her2path.schema import PATTERNS

__all__ = [
    "bystander",
    "fractions",
    "histograms",
    "inline_svg",
    "region_map",
    "save",
    "timeline",
    "variogram",
]

#: stands for the page's text colour; replaced by `currentColor`, so that dark pages work
_INK = "#010203"
#: more polygons than this are drawn as pixels: an SVG of 10,000 squares is slow to open
_MAX_VECTOR = 600
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "her2path",
    "font.size": 9,
    "font.family": "sans-serif",
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
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


def _figure(width: float, height: float, margins: Margins) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height))
    left, right, bottom, top = margins
    ax = figure.add_axes(
        (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height)
    )
    return figure, ax


def _styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    def styled(*args: Any, **kwargs: Any) -> Figure:
        with matplotlib.rc_context(_STYLE):
            return draw(*args, **kwargs)

    styled.__doc__ = draw.__doc__
    return styled


@_styled
def fractions(values: dict[str, float], intervals: dict[str, tuple[float, float]]) -> Figure:
    """Bars of the seven patterns' shares (0..1) with their 95 % intervals."""
    figure, ax = _figure(5.2, 2.7, (1.5, 0.05, 0.5, 0.05))
    for row, name in enumerate(PATTERNS):
        share = 100 * values[name]
        hatch = "////" if name.endswith("incomplete") else None
        ax.barh(row, share, color=PATTERN_COLOURS[name], hatch=hatch, edgecolor=_INK, linewidth=0.5)
        low, high = intervals.get(name, (values[name], values[name]))
        ax.plot([100 * low, 100 * high], [row, row], color=_INK, linewidth=1.4)
        ax.text(max(share, 100 * high) + 1.2, row, f"{share:.1f} %", va="center", fontsize=8)
    ax.axvline(10, color=_INK, linewidth=0.8, linestyle=":")
    ax.set_yticks(range(len(PATTERNS)), [WORDS[p] for p in PATTERNS])
    ax.invert_yaxis()
    ax.set_xlim(0, 112)
    ax.set_xticks(range(0, 101, 20))
    ax.set_xlabel("share of tumour cells, % (dotted: 10 %)")
    return figure


@_styled
def histograms(
    measure: NDArray[np.floating],
    completeness: NDArray[np.floating],
    intensity: NDArray[np.integer],
    limits: tuple[Sequence[float], float],
    label: str,
) -> Figure:
    """Histograms of the stained tumour cells' strength and completeness, stacked by intensity."""
    figure = Figure(figsize=(8.2, 2.7))
    left, right = figure.subplots(
        1, 2, gridspec_kw={"left": 0.08, "right": 0.98, "bottom": 0.18, "top": 0.88, "wspace": 0.16}
    )
    stained = intensity > 0
    top = max(float(np.quantile(measure[stained], 0.999)), limits[0][2] * 1.2)
    _stack(left, np.minimum(measure, top), intensity, np.linspace(0, top, 41))
    for cut in limits[0]:
        left.axvline(cut, color=_INK, linewidth=0.8, linestyle=":")
    left.set_xlabel(f"{label}; dotted: cut-offs")
    left.set_ylabel("stained tumour cells")
    _stack(right, completeness, intensity, np.linspace(0, 1, 41))
    right.axvline(limits[1], color=_INK, linewidth=0.8, linestyle=":")
    right.set_xlabel("completeness, 0 to 1; dotted: complete from here")
    figure.legend(handles=_keys({"faint": SCORE_COLOURS["1+"], "moderate": SCORE_COLOURS["2+"],
                                 "intense": SCORE_COLOURS["3+"]}),
                  loc="upper center", ncols=3)
    return figure


def _stack(
    ax: Axes, values: NDArray[np.floating], intensity: NDArray[np.integer], edges: NDArray[Any]
) -> None:
    bottom = np.zeros(len(edges) - 1)
    for level, colour in enumerate(SCORE_COLOURS.values()):
        if level == 0:
            continue
        counts, _ = np.histogram(values[intensity == level], edges)
        ax.bar(edges[:-1], counts, np.diff(edges), bottom, align="edge", color=colour,
               edgecolor=_INK, linewidth=0.3)
        bottom += counts
    ax.set_ylim(0, 1.05 * max(1.0, float(bottom.max())))


def _keys(colours: dict[str, str]) -> list[Patch]:
    return [Patch(facecolor=c, edgecolor=_INK, linewidth=0.5, label=k) for k, c in colours.items()]


@_styled
def bystander(
    radius_um: Sequence[float],
    coverage: Sequence[float],
    band: tuple[Sequence[float], Sequence[float]] | None,
) -> Figure:
    """Share of tumour cells that are positive or within a radius of a positive one (and 95 %)."""
    figure, ax = _figure(4.6, 2.6, (0.55, 0.15, 0.5, 0.1))
    if band is not None:
        low, high = ([100 * v for v in side] for side in band)
        ax.fill_between(radius_um, low, high, color=SCORE_COLOURS["3+"], alpha=0.18, linewidth=0)
    ax.plot(radius_um, [100 * c for c in coverage], color=SCORE_COLOURS["3+"], linewidth=2)
    ax.set_ylim(0, 102)
    ax.set_xlim(0, max(radius_um))
    ax.grid(color=_INK, alpha=0.15, linewidth=0.6)
    ax.set_xlabel("radius, µm")
    ax.set_ylabel("tumour cells reached, %")
    return figure


@_styled
def region_map(regions: list[Row], what: str, size_mm: tuple[float, float]) -> Figure:
    """Map of the regions: ``score``, ``area_class``, ``positive_fraction`` or ``gi_z``.

    ``size_mm`` is the slide's width and height, mm.
    """
    width, height = size_mm
    shape = min(max(height / width, 0.35), 1.6)
    figure, ax = _figure(3.7, 3.1 * shape + 1.1, (0.45, 0.15, 1.05, 0.05))
    polygons = [_rings(r["polygon"]) for r in regions]
    outline = PolyCollection([p for rings in polygons for p in rings], facecolors="none",
                             edgecolors=_INK, linewidths=0.25, alpha=0.5)
    outline.set_rasterized(len(regions) > _MAX_VECTOR)
    ax.add_collection(outline)
    paint = _paint_classes if what in ("score", "area_class") else _paint_numbers
    paint(figure, ax, regions, polygons, what)
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)
    ax.set_aspect("equal")
    ax.locator_params(nbins=5)
    ax.set_xlabel("mm", labelpad=1)
    return figure


def _rings(wkb: bytes) -> list[NDArray[np.float64]]:
    shape = shapely.from_wkb(wkb)
    parts = shape.geoms if hasattr(shape, "geoms") else [shape]
    return [np.asarray(p.exterior.coords) / 1000 for p in parts if hasattr(p, "exterior")]


def _paint_classes(
    figure: Figure, ax: Axes, regions: list[Row], polygons: list[list[Any]], what: str
) -> None:
    colours = SCORE_COLOURS if what == "score" else AREA_COLOURS
    for name, colour in colours.items():
        pairs = zip(regions, polygons, strict=True)
        mine = [ring for row, rings in pairs if row[what] == name for ring in rings]
        if mine:
            ax.add_collection(_collection(mine, len(regions), facecolors=colour))
    figure.legend(handles=_keys(colours), loc="lower center", ncols=4 if what == "score" else 2)


def _paint_numbers(
    figure: Figure, ax: Axes, regions: list[Row], polygons: list[list[Any]], what: str
) -> None:
    known = [(r[what], p) for r, rings in zip(regions, polygons, strict=True)
             if r[what] is not None for p in rings]
    if not known:
        return
    values = np.array([v for v, _ in known], float)
    if what == "gi_z":
        reach = max(2.0, float(np.abs(values).max()))
        norm, cmap, label = Normalize(-reach, reach), "PuOr_r", "Gi* z: below 0 cold, above 0 hot"
    else:
        norm, cmap, label = Normalize(0, 1), "cividis", "positive fraction of tumour cells"
    patches = _collection([p for _, p in known], len(regions), cmap=cmap, norm=norm)
    patches.set_array(values)
    ax.add_collection(patches)
    height = figure.get_size_inches()[1]
    strip = figure.add_axes((0.15, 0.48 / height, 0.75, 0.13 / height))
    figure.colorbar(patches, cax=strip, orientation="horizontal", label=label)


def _collection(polygons: list[Any], count: int, **style: Any) -> PolyCollection:
    patches = PolyCollection(polygons, edgecolors="none", **style)
    patches.set_rasterized(count > _MAX_VECTOR)
    return patches


@_styled
def variogram(lag_um: Sequence[float], semivariance: Sequence[float | None]) -> Figure:
    """Semivariance of the positive indicator over the distance between two tumour cells."""
    figure, ax = _figure(4.6, 2.6, (0.65, 0.15, 0.5, 0.1))
    known = [(x, y) for x, y in zip(lag_um, semivariance, strict=True) if y is not None]
    ax.plot(*zip(*known, strict=True), ".-", color=SCORE_COLOURS["1+"])
    ax.set_ylim(0, None)
    ax.set_xlim(0, max(lag_um))
    ax.grid(color=_INK, alpha=0.15, linewidth=0.6)
    ax.set_xlabel("distance between two tumour cells, µm")
    ax.set_ylabel("semivariance")
    return figure


@_styled
def timeline(
    labels: Sequence[str],
    h_score: Sequence[float | None],
    bands: Sequence[tuple[float, float] | None],
) -> Figure:
    """H-score over time points, in their order, with 95 % intervals."""
    figure, ax = _figure(4.6, 2.4, (0.6, 0.1, 0.35, 0.1))
    at = [(i, v) for i, v in enumerate(h_score) if v is not None]
    for i, band in enumerate(bands):
        if band is not None:
            ax.plot([i, i], band, color=_INK, linewidth=1.2)
    ax.plot([i for i, _ in at], [v for _, v in at], "o-", color=SCORE_COLOURS["3+"])
    ax.set_xticks(range(len(labels)), list(labels))
    ax.set_xlim(-0.4, len(labels) - 0.6)
    ax.set_ylim(0, 305)
    ax.set_ylabel("H-score, 0 to 300")
    return figure


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
    text = text.replace(_INK, "currentColor").replace("font: 9px", "font-size: 9px")
    return text.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)


def save(figure: Figure, stem: Any) -> list[Any]:
    """Write a figure for a paper: ``stem``.svg and ``stem``.png at 300 dpi, on white."""
    svg, png = stem.with_suffix(".svg"), stem.with_suffix(".png")
    svg.write_text(_svg(figure).replace(_INK, "#000000"), encoding="utf-8")
    with matplotlib.rc_context(_STYLE):
        FigureCanvasAgg(figure).print_figure(
            png, dpi=300, facecolor="white", metadata={"Software": None}
        )
    return [svg, png]


def data_uri(data: bytes, kind: str) -> str:
    """Return bytes as a ``data:`` address."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
