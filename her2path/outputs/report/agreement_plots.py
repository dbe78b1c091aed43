"""Charts of agreement, from plain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from her2path.outputs.palette import SCORE_COLOURS
from her2path.outputs.report.canvas import INK, Row, page, styled

__all__ = ["bland_altman", "forest", "onest"]

#: colours of curves and marks, told apart by their order in grey too
_MARKS = ("#0b5cad", "#e58a00", "#a00d3b", "#5b6b7b")


@styled
def forest(rows: Sequence[Row], label: str, limits: tuple[float, float]) -> Figure:
    """Points with their intervals, one line a pair.

    Parameters
    ----------
    rows : sequence of dict
        ``name``, ``value``, ``low``, ``high``, ``group`` (a colour each); values may be None.
    label : str
        What the axis shows.
    limits : (float, float)
        Ends of the axis.
    """
    height = 0.6 + 0.2 * max(2, len(rows))
    wide = 0.085 * max((len(str(r["name"])) for r in rows), default=1) + 0.15
    figure, ax = page(wide + 3.7, height, (wide, 0.75, 0.45, 0.05))
    for at, row in enumerate(rows):
        if row["value"] is None:
            ax.text(limits[0], at, "not defined", va="center", fontsize=8)
            continue
        colour = _MARKS[row["group"] % len(_MARKS)]
        if row["low"] is not None:
            ax.plot([row["low"], row["high"]], [at, at], color=colour, linewidth=1.4)
        ax.plot(row["value"], at, "os^D"[row["group"] % 4], color=colour, markersize=4.5)
        ax.text(
            1.02,
            at,
            f"{row['value']:.2f}",
            va="center",
            fontsize=8,
            transform=ax.get_yaxis_transform(),
        )
    ax.set_yticks(range(len(rows)), [str(r["name"]) for r in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(*limits)
    ax.grid(axis="x", color=INK, alpha=0.15, linewidth=0.6)
    if limits[0] < 0:
        ax.axvline(0, color=INK, linewidth=0.8, linestyle=":")
    ax.set_xlabel(label)
    return figure


@styled
def bland_altman(a: NDArray[Any], b: NDArray[Any], figures: Row, label: str) -> Figure:
    """Differences b - a over means, with bias and limits of agreement and their intervals."""
    figure, ax = page(4.4, 2.9, (0.65, 0.55, 0.5, 0.1))
    ax.plot(
        (a + b) / 2,
        b - a,
        ".",
        color=SCORE_COLOURS["1+"],
        markersize=4,
        alpha=0.6,
        rasterized=len(a) > 500,
    )
    for name, style in (("bias", "-"), ("loa_lower", "--"), ("loa_upper", "--")):
        value, low, high = (figures.get(name + end) for end in ("", "_low", "_high"))
        if value is None:
            continue
        ax.axhline(value, color=INK, linewidth=1, linestyle=style)
        if low is not None and high is not None:
            ax.axhspan(low, high, color=INK, alpha=0.1, linewidth=0)
        ax.text(
            1.01, value, f"{value:.1f}", va="center", fontsize=8, transform=ax.get_yaxis_transform()
        )
    ax.set_xlabel(f"mean {label}")
    ax.set_ylabel("difference")
    return figure


@styled
def onest(curves: dict[str, list[Row]]) -> Figure:
    """Share of items on which all of 2, 3, ... readers agree, with intervals over cases."""
    figure, ax = page(5.4, 3.0, (0.6, 0.1, 0.5, 0.4))
    most = 2
    for k, (name, points) in enumerate(curves.items()):
        known = [p for p in points if p["opa"] is not None]
        if not known:
            continue
        colour, x = _MARKS[k % len(_MARKS)], [p["readers"] for p in known]
        most = max(most, *x)
        ax.plot(
            x,
            [100 * p["opa"] for p in known],
            "os^D"[k % 4] + "-",
            color=colour,
            markersize=4,
            label=name,
        )
        sure = [p for p in known if p["opa_low"] is not None]
        ax.fill_between(
            [p["readers"] for p in sure],
            [100 * p["opa_low"] for p in sure],
            [100 * p["opa_high"] for p in sure],
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
    ax.set_xlim(1.8, most + 0.2)
    step = max(1, round((most - 2) / 8))
    ax.set_xticks(np.arange(2, most + 1, step))
    ax.set_ylim(0, 102)
    ax.grid(color=INK, alpha=0.15, linewidth=0.6)
    ax.set_xlabel("readers")
    ax.set_ylabel("all agree, % of items")
    figure.legend(loc="upper center", ncols=4)
    return figure
