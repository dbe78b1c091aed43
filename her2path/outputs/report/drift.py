"""``drift.html``: a batch's control charts, from ``drift.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from her2path.outputs.report.canvas import INK, inline_svg, page, styled

__all__ = ["chart", "drift_values"]

Tree = dict[str, Any]
OUTSIDE = "#c0392b"
WARNED = "#d68910"


def drift_values(tree: Tree, out: Path) -> Tree:
    """Return the template's variables."""
    charts = [
        {**q, "svg": Markup(inline_svg(chart(q), f"drift-{i}")), "alt": _words(q)}
        for i, q in enumerate(tree["quantities"])
    ]
    return {"title": f"Drift of batch {out.resolve().name}", "tree": tree, "charts": charts}


def _words(q: Tree) -> str:
    bad = [p["slide_id"] for p in q["points"] if p["outside"]]
    told = f"outside: {', '.join(bad[:6])}" if bad else "no slide outside"
    return f"{q['quantity']} over {len(q['points'])} slides; {told}."


@styled
def chart(q: Tree) -> Figure:
    """Draw one quantity over the slides, with its mean and limits at 2 and 3 SD."""
    figure, ax = page(8.2, 2.1, (0.75, 0.55, 0.4, 0.1))
    values = np.array([np.nan if p["value"] is None else p["value"] for p in q["points"]])
    place = np.arange(1, len(values) + 1)
    if q["sd"] is not None:
        for z, style in ((0, "-"), (2, "--"), (-2, "--"), (3, ":"), (-3, ":")):
            ax.axhline(q["mean"] + z * q["sd"], color=INK, linewidth=0.7, linestyle=style)
            ax.annotate(f"{z:+d} SD" if z else "mean", (1, q["mean"] + z * q["sd"]), (3, 0),
                        xycoords=("axes fraction", "data"), textcoords="offset points",
                        fontsize=7, va="center")  # fmt: skip
    ax.plot(place, values, color=INK, linewidth=0.8, marker="o", markersize=3)
    for i, p in zip(place, q["points"], strict=True):
        if p["rules"]:
            colour = OUTSIDE if p["outside"] else WARNED
            ax.plot([i], [p["value"]], "D" if p["outside"] else "s", color=colour, markersize=6)
            words = " ".join(p["rules"]).replace("_", " ")
            ax.annotate(words, (i, p["value"]), (0, 6), textcoords="offset points", fontsize=7,
                        ha="center", color=colour)  # fmt: skip
    ax.set_xlim(0.5, len(values) + 0.5)
    ax.margins(y=0.18)
    ax.set_xlabel("slide, in order")
    ax.set_ylabel(q["unit"])
    return figure
