"""The section on calibration: cut-offs, controls, the curve and what it reads off."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from her2path.outputs.palette import SCORE_COLOURS
from her2path.outputs.report.canvas import INK, inline_svg, page, styled
from her2path.outputs.report.context import SlideContext

__all__ = ["calibration", "curve_figure"]

Values = dict[str, Any]
_NAMES = ("faint", "moderate", "intense")
_SOURCES = {
    ("slide", "control"): "from the control areas on this slide",
    ("slide", "calibrators"): "from the calibrators on this slide",
    ("settings", "control"): "from control tissue",
    ("settings", "reads"): "from reads of this laboratory",
    ("settings", "calibrators"): "from calibrators of known receptor number",
}


def calibration(context: SlideContext) -> Values:
    """Cut-offs with their source, control areas, the curve, receptors."""
    made = context.need("calibration", "The calibration was not recorded.")
    word = context.get("stain.calibration")
    limits = made.get("cutoffs_intervals") or [(None, None)] * 3
    figure = curve_figure(context)
    curve = made.get("curve")
    return {
        "source": _SOURCES.get((made["source"], word), "as shipped, calibrated to no laboratory"),
        "unit": "OD" if made["measure"] == "membrane_od" else "OD·µm",
        "cutoffs": list(zip(_NAMES, made["cutoffs"], limits, strict=True)),
        "error": made["cutoffs_relative_error"],
        "assay": [(k, context.get(f"assay.{k}"), context.get(f"calibration.assay.{k}"))
                  for k in ("clone", "stainer", "scanner")],
        "controls": made.get("controls") or [],
        "svg": None if figure is None else Markup(inline_svg(figure, "curve")),
        "alt": "" if curve is None else
               "Curve of membrane OD against receptors a cell, from "
               f"{curve['receptors'][0]:.0f} to {curve['receptors'][-1]:.0f} receptors.",
        "receptors": context.get("receptors") or {},
    }  # fmt: skip


def curve_figure(context: SlideContext) -> Figure | None:
    """Draw the curve with its calibrators and the cut-offs; None where there is none."""
    curve = context.settings.calibration.curve
    if curve is None:
        return None
    from scipy.interpolate import PchipInterpolator

    line = PchipInterpolator(np.log(curve.od), np.log(curve.receptors))
    od = np.geomspace(curve.od[0], curve.od[-1], 100)
    return _drawn(od, np.exp(line(np.log(od))), context)


@styled
def _drawn(od: np.ndarray, receptors: np.ndarray, context: SlideContext) -> Figure:
    settings = context.settings
    curve = settings.calibration.curve
    assert curve is not None
    figure, ax = page(5.2, 3.0, (0.75, 0.1, 0.5, 0.1))
    ax.plot(od, receptors, color=INK, linewidth=1.2)
    error = np.array(curve.relative_error)
    knots = np.array(curve.receptors)
    ax.errorbar(curve.od, knots, yerr=(knots - knots / (1 + error), knots * error), fmt="o",
                color=INK, markersize=4, linewidth=1)  # fmt: skip
    if curve.measure == settings.membrane.measure:
        for cut, score in zip(settings.membrane.cutoffs, ("1+", "2+", "3+"), strict=True):
            ax.axvline(cut, color=SCORE_COLOURS[score], linewidth=1.2, linestyle=":")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel(f"{curve.measure.replace('_', ' ')} (dotted: cut-offs)")
    ax.set_ylabel("receptors a cell")
    return figure
