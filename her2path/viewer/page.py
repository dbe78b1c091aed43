"""The page: a Bokeh plot with two tile sources, and what stands beside it."""

from __future__ import annotations

from importlib import resources
from typing import Any

import jinja2
from bokeh.embed import json_item
from bokeh.models import ColumnDataSource, Plot, Range1d, WMTSTileSource
from bokeh.models.glyphs import MultiLine, Scatter
from bokeh.models.tools import PanTool, WheelZoomTool

from her2path import __version__
from her2path.palette import PATTERN_COLOURS, SCORE_COLOURS, WORDS
from her2path.qc import CODES
from her2path.results import Result
from her2path.schema import CELL_TYPES, PATTERNS
from her2path.viewer.ledger import REGION_CLASSES
from her2path.viewer.tiles import TILE_PX, Plane

__all__ = ["asset", "page", "plot"]


def asset(name: str) -> str:
    """Return one of our own files."""
    return resources.files("her2path.viewer").joinpath("assets", name).read_text(encoding="utf-8")


def plot(plane: Plane) -> Any:
    """Return the plot as Bokeh's JSON; its y axis runs upward, so that y = - level-0 y."""
    made = Plot(
        name="slide",
        x_range=Range1d(0, plane.width_px, name="x"),
        y_range=Range1d(-plane.height_px, 0, name="y"),
        sizing_mode="stretch_both",
        toolbar_location=None,
        outline_line_color=None,
        border_fill_color=None,
        background_fill_color="#f3f3f2",
        min_border=0,
        output_backend="canvas",
    )
    for name in ("slide", "overlay"):
        made.add_tile(_tiles(name, plane), name=f"{name}-layer")
    _add_marks(made)
    zoom = WheelZoomTool()
    made.add_tools(PanTool(), zoom)
    made.toolbar.active_scroll = zoom
    return json_item(made, "plot")


def _tiles(name: str, plane: Plane) -> WMTSTileSource:
    return WMTSTileSource(
        url=f"/tile/{name}/{{Z}}/{{X}}/{{Y}}",
        name=f"{name}-tiles",
        tile_size=TILE_PX,
        min_zoom=0,
        max_zoom=plane.z_max,
        initial_resolution=float(2**plane.z_max),
        x_origin_offset=0,
        y_origin_offset=float(plane.side_px),
        wrap_around=False,
        attribution="",
    )


def _add_marks(made: Plot) -> None:
    """Add what the page draws itself: the chosen cell, and a region in the making."""
    chosen = ColumnDataSource({"xs": [], "ys": []}, name="chosen")
    made.add_glyph(chosen, MultiLine(xs="xs", ys="ys", line_color="#111", line_width=5))
    made.add_glyph(chosen, MultiLine(xs="xs", ys="ys", line_color="#3dff8b", line_width=2.5))
    drawn = ColumnDataSource({"xs": [], "ys": []}, name="drawn")
    made.add_glyph(drawn, MultiLine(xs="xs", ys="ys", line_color="#7a1fff", line_width=2.5))
    corners = ColumnDataSource({"x": [], "y": []}, name="corners")
    made.add_glyph(corners, Scatter(x="x", y="y", size=7, fill_color="#7a1fff", line_color="#fff"))


def page(result: Result, plane: Plane, token: str, why_no_slide: str, layers: list[str]) -> str:
    """Return the page's HTML."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined,
                                     trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(asset("viewer.html.j2"))
    facts = {"width": plane.width_px, "height": plane.height_px, "mpp": plane.mpp,
             "patterns": list(PATTERNS), "zMax": plane.z_max}
    return template.render(
        result=result, facts=facts, token=token, why_no_slide=why_no_slide, layers=layers,
        patterns=PATTERNS, words=WORDS, colours=PATTERN_COLOURS, scores=SCORE_COLOURS,
        codes=list(CODES.values()), cell_types=CELL_TYPES, region_classes=REGION_CLASSES,
        version=__version__,
    )
