"""Maps of regions and of patches, from plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from her2path.outputs.palette import AREA_COLOURS, CATEGORY_COLOURS, SCORE_COLOURS
from her2path.outputs.report.canvas import INK, Row, keys, page, styled

__all__ = ["Ground", "region_map", "spots"]

#: more polygons than this are drawn as pixels: an SVG of 10,000 squares is slow to open
_MAX_VECTOR = 600


#: longer side of the picture under a map, pixels
_PICTURE_PX = 420
#: how much of the picture shows through a map
_SHEER = 0.62
#: regions are marked by their class while there are so few
_MOST_MARKS = 80
_MARKS = {"positive": "+", "heterogeneous": "±", "negative": "–"}


@dataclass(frozen=True)
class Ground:
    """What a map is drawn on: the slide's width and height, mm, and its overview (H, W, 3)."""

    size_mm: tuple[float, float]
    picture: NDArray[np.uint8] | None = None


@styled
def region_map(regions: list[Row], what: str, ground: Ground) -> Figure:
    """Map of the regions by one of their columns, on the tissue's picture.

    ``what`` is ``score``, ``area_class``, ``category``, ``positive_fraction`` (where regions are
    marked by their class) or ``gi_z`` (where significant regions are outlined).
    """
    polygons = [_rings(r["polygon"]) for r in regions]
    frame = _frame(np.concatenate([ring for rings in polygons for ring in rings]), ground)
    figure, ax = _sheet(frame)
    _picture(ax, ground)
    outline = PolyCollection(
        [p for rings in polygons for p in rings],
        facecolors="none",
        edgecolors=_DARK,
        linewidths=0.4,
        alpha=0.6,
    )
    outline.set_rasterized(len(regions) > _MAX_VECTOR)
    paint = _paint_classes if what in _CLASSES else _paint_numbers
    paint(figure, ax, regions, polygons, what)
    ax.add_collection(outline)
    if what == "positive_fraction" and len(regions) <= _MOST_MARKS:
        _mark(ax, regions, polygons, frame)
    _plane(ax, frame)
    return figure


#: on the light picture also on a dark page
_DARK = "#202020"


def _frame(points: NDArray[np.float64], ground: Ground) -> tuple[float, float, float, float]:
    """Return the part of the slide that holds the points, with a margin: x0, x1, y0, y1, mm."""
    (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
    margin = 0.03 * max(x1 - x0, y1 - y0)
    width, height = ground.size_mm
    return (max(0.0, x0 - margin), min(width, x1 + margin),
            max(0.0, y0 - margin), min(height, y1 + margin))  # fmt: skip


def _sheet(frame: tuple[float, float, float, float]) -> tuple[Figure, Axes]:
    shape = min(max((frame[3] - frame[2]) / (frame[1] - frame[0]), 0.35), 1.6)
    return page(3.7, 3.1 * shape + 1.1, (0.45, 0.15, 1.05, 0.05))


def _picture(ax: Axes, ground: Ground) -> None:
    """Lay the overview under a map, grey, so that no colour of it is taken for the map's."""
    if ground.picture is None:
        return
    step = max(1, -(-max(ground.picture.shape[:2]) // _PICTURE_PX))
    grey = ground.picture[::step, ::step].mean(axis=2)
    width, height = ground.size_mm
    ax.imshow(
        grey,
        cmap="gray",
        vmin=0,
        vmax=255,
        extent=(0, width, height, 0),
        zorder=0,
        interpolation="antialiased",
    )


def _mark(
    ax: Axes, regions: list[Row], polygons: list[list[Any]],
    frame: tuple[float, float, float, float],
) -> None:  # fmt: skip
    for row, rings in zip(regions, polygons, strict=True):
        mark = _MARKS.get(str(row.get("area_class")))
        if mark is not None:
            x0, x1, y0, y1 = frame
            ring = np.clip(max(rings, key=len), (x0, y0), (x1, y1))
            x, y = (ring.min(axis=0) + ring.max(axis=0)) / 2
            ax.text(x, y, mark, ha="center", va="center", fontsize=9, fontweight="bold",
                    color=_DARK, bbox={"boxstyle": "circle,pad=0.15", "facecolor": "#ffffffcc",
                                       "edgecolor": "none"})  # fmt: skip


def _rings(wkb: bytes) -> list[NDArray[np.float64]]:
    shape = shapely.from_wkb(wkb)
    parts = shape.geoms if hasattr(shape, "geoms") else [shape]
    return [np.asarray(p.exterior.coords) / 1000 for p in parts if hasattr(p, "exterior")]


_CLASSES = {"score": SCORE_COLOURS, "area_class": AREA_COLOURS, "category": CATEGORY_COLOURS}
_COLUMNS = {"score": 4, "area_class": 2, "category": 3}
#: hot and cold regions that stand out are outlined at this false discovery rate
_FDR = 0.05


def _paint_classes(
    figure: Figure, ax: Axes, regions: list[Row], polygons: list[list[Any]], what: str
) -> None:
    colours = dict(_CLASSES[what])
    if what == "category":  # a guideline knows either low, ultralow and null, or negative
        seen = {row[what] for row in regions}
        left = ("negative",) if "negative" not in seen else ("low", "ultralow", "null")
        colours = {k: v for k, v in colours.items() if k not in left}
    for name, colour in colours.items():
        pairs = zip(regions, polygons, strict=True)
        mine = [ring for row, rings in pairs if row[what] == name for ring in rings]
        if mine:
            ax.add_collection(_collection(mine, len(regions), facecolors=colour))
    figure.legend(handles=keys(colours), loc="lower center", ncols=_COLUMNS[what])


def _paint_numbers(
    figure: Figure, ax: Axes, regions: list[Row], polygons: list[list[Any]], what: str
) -> None:
    known = [
        (r[what], p)
        for r, rings in zip(regions, polygons, strict=True)
        if r[what] is not None
        for p in rings
    ]
    if not known:
        return
    values = np.array([v for v, _ in known], float)
    if what == "gi_z":
        reach = max(2.0, float(np.abs(values).max()))
        norm, cmap = Normalize(-reach, reach), "PRGn"
        label = f"Gi* z: cold < 0 < hot; outlined: FDR {100 * _FDR:g} %"
    else:
        norm, cmap, label = Normalize(0, 1), "Greens", "positive fraction of tumour cells"
    patches = _collection([p for _, p in known], len(regions), cmap=cmap, norm=norm)
    patches.set_array(values)
    ax.add_collection(patches)
    if what == "gi_z":
        _outline_significant(ax, regions, polygons)
    _colour_bar(figure, patches, label)


def _outline_significant(ax: Axes, regions: list[Row], polygons: list[list[Any]]) -> None:
    """Draw the rim around the joined regions that stand out, hot and cold apart."""
    for sign in (-1, 1):
        mine = [
            shapely.Polygon(ring)
            for row, rings in zip(regions, polygons, strict=True)
            if row.get("gi_q") is not None and row["gi_q"] <= _FDR and sign * row["gi_z"] > 0
            for ring in rings
        ]
        joined = shapely.union_all([p.buffer(1e-4) for p in mine])
        for part in getattr(joined, "geoms", [joined]):
            if not part.is_empty:
                ax.plot(*part.exterior.xy, color=INK, linewidth=1.6)


@styled
def spots(facts: Row, ground: Ground) -> Figure:
    """Map of the significant patches of cells: share of a bin's tumour cells in hot or cold ones.

    ``facts`` are a pattern's ``spots``.
    """
    side = facts["bin_um"] / 1000
    x, y = (np.asarray(facts[k], float) / 1000 for k in ("x_um", "y_um"))
    squares = [[(a, b), (a + side, b), (a + side, b + side), (a, b + side)]
               for a, b in zip(x - side / 2, y - side / 2, strict=True)]  # fmt: skip
    frame = _frame(np.asarray(squares, float).reshape(-1, 2), ground)
    figure, ax = _sheet(frame)
    _picture(ax, ground)
    patches = _collection(squares, len(squares), cmap="PRGn", norm=Normalize(-1, 1))
    patches.set_array(np.asarray(facts["balance"], float))
    ax.add_collection(patches)
    _plane(ax, frame)
    label = "tumour cells in negative (-1) and positive (1) patches"
    _colour_bar(figure, patches, label)
    return figure


def _plane(ax: Axes, frame: tuple[float, float, float, float]) -> None:
    ax.set_xlim(frame[0], frame[1])
    ax.set_ylim(frame[3], frame[2])
    ax.set_aspect("equal")
    ax.locator_params(nbins=5)
    ax.set_xlabel("mm", labelpad=1)


def _colour_bar(figure: Figure, patches: PolyCollection, label: str) -> None:
    height = figure.get_size_inches()[1]
    strip = figure.add_axes((0.15, 0.48 / height, 0.75, 0.13 / height))
    figure.colorbar(patches, cax=strip, orientation="horizontal", label=label)


def _collection(polygons: list[Any], count: int, **style: Any) -> PolyCollection:
    patches = PolyCollection(polygons, edgecolors="none", alpha=_SHEER, **style)
    patches.set_rasterized(count > _MAX_VECTOR)
    return patches
