"""Charts from plain values; maps are in `maps`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from her2path.core.schema import PATTERNS
from her2path.outputs.palette import PATTERN_COLOURS, SCORE_COLOURS, WORDS
from her2path.outputs.report.canvas import INK, Row, keys, page, styled

__all__ = [
    "area_histogram",
    "bystander",
    "fractions",
    "histograms",
    "timeline",
    "variogram",
]

#: a colour that means nothing
_PLAIN = "#8d99a6"


@styled
def fractions(values: dict[str, float], intervals: dict[str, tuple[float, float]]) -> Figure:
    """Bars of the seven patterns' shares (0..1) with their 95 % intervals."""
    figure, ax = page(5.2, 2.7, (1.5, 0.05, 0.5, 0.05))
    for row, name in enumerate(PATTERNS):
        share = 100 * values[name]
        hatch = "////" if name.endswith("incomplete") else None
        ax.barh(row, share, color=PATTERN_COLOURS[name], hatch=hatch, edgecolor=INK, linewidth=0.5)
        low, high = intervals.get(name, (values[name], values[name]))
        ax.plot([100 * low, 100 * high], [row, row], color=INK, linewidth=1.4)
        ax.text(max(share, 100 * high) + 1.2, row, f"{share:.1f} %", va="center", fontsize=8)
    ax.axvline(10, color=INK, linewidth=0.8, linestyle=":")
    ax.set_yticks(range(len(PATTERNS)), [WORDS[p] for p in PATTERNS])
    ax.invert_yaxis()
    ax.set_xlim(0, 112)
    ax.set_xticks(range(0, 101, 20))
    ax.set_xlabel("share of tumour cells, % (dotted: 10 %)")
    return figure


@styled
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
        left.axvline(cut, color=INK, linewidth=0.8, linestyle=":")
    left.set_xlabel(f"{label}; dotted: cut-offs")
    left.set_ylabel("stained tumour cells")
    _stack(right, completeness, intensity, np.linspace(0, 1, 41))
    right.axvline(limits[1], color=INK, linewidth=0.8, linestyle=":")
    right.set_xlabel("completeness, 0 to 1; dotted: complete from here")
    figure.legend(
        handles=keys(
            {
                "faint": SCORE_COLOURS["1+"],
                "moderate": SCORE_COLOURS["2+"],
                "intense": SCORE_COLOURS["3+"],
            }
        ),
        loc="upper center",
        ncols=3,
    )
    return figure


def _stack(
    ax: Axes, values: NDArray[np.floating], intensity: NDArray[np.integer], edges: NDArray[Any]
) -> None:
    bottom = np.zeros(len(edges) - 1)
    for level, colour in enumerate(SCORE_COLOURS.values()):
        if level == 0:
            continue
        counts, _ = np.histogram(values[intensity == level], edges)
        ax.bar(
            edges[:-1],
            counts,
            np.diff(edges),
            bottom,
            align="edge",
            color=colour,
            edgecolor=INK,
            linewidth=0.3,
        )
        bottom += counts
    ax.set_ylim(0, 1.05 * max(1.0, float(bottom.max())))


@styled
def bystander(
    radius_um: Sequence[float],
    coverage: Sequence[float],
    band: tuple[Sequence[float], Sequence[float]] | None,
) -> Figure:
    """Share of tumour cells that are positive or within a radius of a positive one (and 95 %)."""
    figure, ax = page(4.6, 2.6, (0.55, 0.2, 0.5, 0.1))
    if band is not None:
        low, high = ([100 * v for v in side] for side in band)
        ax.fill_between(radius_um, low, high, color=INK, alpha=0.15, linewidth=0)
    ax.axhline(100 * coverage[0], color=INK, linewidth=0.8, linestyle=":")
    ax.plot(radius_um, [100 * c for c in coverage], color=INK, linewidth=2)
    ax.text(max(radius_um), 100 * coverage[0] + 2, "positive themselves", ha="right", fontsize=8)
    ax.set_ylim(0, 104)
    ax.set_xlim(0, max(radius_um))
    ax.grid(color=INK, alpha=0.15, linewidth=0.6)
    ax.set_xlabel("distance to a positive cell at most, µm")
    ax.set_ylabel("tumour cells, %")
    return figure


@styled
def area_histogram(shares: Sequence[float], limits: tuple[float, float]) -> Figure:
    """Histogram of the areas' positive fractions (0..1) with the limits of their classes."""
    figure, ax = page(3.7, 2.9, (0.5, 0.15, 0.45, 0.45))
    edges = np.linspace(0, 1, 21)
    counts = np.bincount(np.clip(np.digitize(shares, edges) - 1, 0, 19), minlength=20)
    ax.bar(100 * edges[:-1], counts, 5, align="edge", color=_PLAIN, edgecolor=INK, linewidth=0.4)
    low, high = (100 * limit for limit in limits)
    for limit in (low, high):
        ax.axvline(limit, color=INK, linewidth=1, linestyle="--")
    for x, word in ((low / 2, "–"), ((low + high) / 2, "±"), ((high + 100) / 2, "+")):
        ax.text(x, 1.02, word, fontsize=10, ha="center", transform=ax.get_xaxis_transform())
    ax.set_xlim(0, 100)
    ax.set_ylim(0, 1.08 * max(1.0, float(counts.max())))
    ax.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    ax.set_xlabel(f"positive tumour cells, % (dashed: {low:g} and {high:g} %)")
    ax.set_ylabel("areas")
    return figure


@styled
def variogram(facts: Row) -> Figure:
    """Semivariance of the positive indicator over the distance between two tumour cells.

    ``facts`` is the variogram of a result: lags, semivariances and their intervals, and the model.
    """
    figure, ax = page(4.6, 2.6, (0.65, 0.15, 0.5, 0.3))
    lags, colour = facts["lag_um"], INK
    known = [(x, y) for x, y in zip(lags, facts["semivariance"], strict=True) if y is not None]
    bands = zip(lags, facts.get("semivariance_low") or [], facts.get("semivariance_high") or [],
                strict=False)  # fmt: skip
    whole = [(x, a, b) for x, a, b in bands if a is not None and b is not None]
    if whole:
        x, low, high = zip(*whole, strict=True)
        ax.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    ax.plot(*zip(*known, strict=True), ".", color=colour, label="measured")
    nugget, sill, reach = (facts.get(k) for k in ("nugget", "sill", "range_um"))
    if nugget is not None and sill is not None and reach is not None:
        h = np.linspace(0, max(lags), 200)
        ax.plot(
            h,
            nugget + (sill - nugget) * (1 - np.exp(-3 * h / reach)),
            color=INK,
            linewidth=1.2,
            label="model",
        )
        ax.axvline(reach, color=INK, linewidth=0.8, linestyle=":")
        ax.text(reach, 0, f" range {reach:.0f} µm", fontsize=8, va="bottom")
    ax.set_ylim(0, None)
    ax.set_xlim(0, max(lags))
    ax.grid(color=INK, alpha=0.15, linewidth=0.6)
    ax.set_xlabel("distance between two tumour cells, µm")
    ax.set_ylabel("semivariance")
    figure.legend(loc="upper center", ncols=2)
    return figure


@styled
def timeline(
    labels: Sequence[str],
    h_score: Sequence[float | None],
    bands: Sequence[tuple[float, float] | None],
) -> Figure:
    """H-score over time points, in their order, with 95 % intervals."""
    figure, ax = page(4.6, 2.4, (0.6, 0.1, 0.35, 0.1))
    at = [(i, v) for i, v in enumerate(h_score) if v is not None]
    for i, band in enumerate(bands):
        if band is not None:
            ax.plot([i, i], band, color=INK, linewidth=1.2)
    ax.plot([i for i, _ in at], [v for _, v in at], "o-", color=INK)
    ax.set_xticks(range(len(labels)), list(labels))
    ax.set_xlim(-0.4, len(labels) - 0.6)
    ax.set_ylim(0, 305)
    ax.set_ylabel("H-score, 0 to 300")
    return figure
