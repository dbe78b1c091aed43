"""Tiles of the slide and of what lies over it, drawn when they are asked for."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from her2path.cells.qc import CODES, first_code
from her2path.core.errors import Her2PathError, actual
from her2path.core.geometry import Box, Planes
from her2path.io.annotations import read_annotations
from her2path.io.slide import Slide, SlideRef, open_slide
from her2path.io.store import RunStore
from her2path.outputs.palette import AREA_COLOURS, SCORE_COLOURS, rgb
from her2path.outputs.viewer.draw import SHIFT, Rgba, draw_shape, fixed, over
from her2path.outputs.viewer.encode import jpeg, png
from her2path.outputs.viewer.heat import Heat
from her2path.outputs.viewer.index import OTHER, build_index
from her2path.outputs.viewer.measures import GREY, SCORE, Measures, ramp
from her2path.outputs.viewer.smooth import Smooth
from her2path.outputs.viewer.stains import one_stain, stain_of

__all__ = ["LAYERS", "TILE_PX", "VIEWS", "Plane", "Tiles"]

#: side of a tile in the page's pixels; its image has twice as many, so that it stays sharp
TILE_PX = 256
IMAGE_PX = 512
LAYERS = ("cells", "heat", "regions", "tumour", "tissue", "qc", "annotations")
#: what is shown of the slide: as it is, or one stain alone
VIEWS = ("slide", "hematoxylin", "dab")
#: image pixels up to this size (µm) show outlines, up to the next one dots, above it heat
OUTLINES_UM, DOTS_UM = 0.8, 2.6
#: and up to this size outlines have a rim
RIMS_UM = 0.35
#: larger reads are served from the stored overview
MAX_READ_PX = 6144
#: colours of the masks: nothing, then tissue, or the codes of quality control
_PAINT = {
    "tissue": np.array([(0, 0, 0, 0), (60, 90, 200, 70)], np.uint8),
    "qc": np.array(
        [(0, 0, 0, 0)]
        + [(*rgb(c.colour), 55 if c.name == "no_epithelium" else 130) for c in CODES.values()],
        np.uint8,
    ),
}
_SCORE = [rgb(c) for c in SCORE_COLOURS.values()]
_CORRECTED = (122, 31, 255)
_BEYOND = (243, 243, 242)


@dataclass(frozen=True)
class Plane:
    """The square plane and its tile pyramid: at zoom ``z_max`` a page pixel is a level-0 pixel."""

    width_px: int
    height_px: int
    mpp: float

    @property
    def z_max(self) -> int:
        """Finest zoom."""
        side = max(self.width_px, self.height_px, TILE_PX)
        return int(np.ceil(np.log2(side / TILE_PX)))

    @property
    def side_px(self) -> int:
        """Side of the square that zoom 0 shows, level-0 px."""
        return int(TILE_PX * 2**self.z_max)

    def step(self, z: int) -> float:
        """Return level-0 px per image px of a tile."""
        return float(2 ** (self.z_max - z)) * TILE_PX / IMAGE_PX

    def origin(self, z: int, x: int, y: int) -> tuple[float, float]:
        """Return a tile's upper left corner, level-0 px."""
        side = IMAGE_PX * self.step(z)
        return x * side, y * side


class Tiles:
    """Draws tiles.

    Parameters
    ----------
    store : RunStore
        A complete run.
    slide : path, optional
        The slide, when it has moved.
    """

    def __init__(self, store: RunStore, slide: Path | None = None) -> None:
        result = store.result()
        facts = result.slide
        self.store = store
        self.thumbnail = store.thumbnail()
        mpp = facts.mpp or 1.0
        rows, columns = self.thumbnail.shape[:2]
        self.planes = facts.planes
        size = self.planes.square_px if facts.width_px and facts.height_px else (columns, rows)
        self.plane = Plane(size[0], size[1], mpp)
        self.why_no_slide = ""
        self._slide = self._open(slide or (Path(actual(facts.path)) if facts.path else None), mpp)
        self._lock = threading.Lock()
        self.index = build_index(store, self.planes)
        self.heat = Heat(self.index.cells, self.plane.width_px, self.plane.height_px, mpp)
        spread = result.heterogeneity
        positive = spread.positive_definition if spread is not None else ("intense_complete",)
        self.measures = Measures(store, self.index, tuple(positive))
        self._smooth: dict[str, Smooth] = {}
        self._stain = stain_of(result)
        self.regions = store.regions().to_pylist() if store.regions_path.exists() else []
        self._region_shapes = [shapely.from_wkb(r["polygon"]) for r in self.regions]
        self._region_tree = shapely.STRtree(self._region_shapes)
        self._annotations = _annotations(store, self.planes)
        self._masks = _masks(store)

    def _open(self, path: Path | None, mpp: float) -> Slide | None:
        if path is None:
            self.why_no_slide = "The result does not say where the slide is."
            return None
        try:
            oblong = self.planes.file.mpp_x != self.planes.file.mpp_y
            slide = open_slide(SlideRef(str(path), mpp=mpp, force_mpp=not oblong))
        except Her2PathError as exc:
            self.why_no_slide = str(exc)
            return None
        size = (slide.info.width_px, slide.info.height_px)
        if size != (self.plane.width_px, self.plane.height_px):
            self.why_no_slide = f"{path} is another slide: its size differs."
            slide.close()
            return None
        return slide

    def close(self) -> None:
        """Close the slide."""
        if self._slide is not None:
            self._slide.close()

    def corrected(self) -> None:
        """Take note that cells were corrected: what is counted of them is counted anew."""
        self.heat = Heat(self.index.cells, self.plane.width_px, self.plane.height_px,
                         self.plane.mpp)  # fmt: skip
        self.measures.forget()
        self._smooth.clear()

    # -- the slide -----------------------------------------------------------------------------

    @property
    def views(self) -> tuple[str, ...]:
        """What can be shown of the slide: stains where they are known."""
        return VIEWS if self._stain is not None else VIEWS[:1]

    def slide_tile(self, z: int, x: int, y: int, view: str = "slide") -> bytes:
        """Return a tile of the slide, or of one of its stains (`VIEWS`), as JPEG."""
        step, (x0, y0) = self.plane.step(z), self.plane.origin(z, x, y)
        pixels = self._from_slide(x0, y0, step)
        if pixels is None:
            pixels = self._from_thumbnail(x0, y0, step)
        if view != "slide" and self._stain is not None:
            pixels = one_stain(pixels, self._stain, view)
        # beyond the slide's edge the tile has the page's colour
        pixels[max(0, round((self.plane.height_px - y0) / step)) :] = _BEYOND
        pixels[:, max(0, round((self.plane.width_px - x0) / step)) :] = _BEYOND
        return jpeg(pixels)

    def _from_slide(self, x0: float, y0: float, step: float) -> Rgba | None:
        if self._slide is None:
            return None
        levels = self._slide.info.levels
        level = max((i for i, d in enumerate(levels) if d <= step * 1.01), default=0)
        scale = step / levels[level]
        side = round(IMAGE_PX * scale)
        if side > MAX_READ_PX:
            return None
        left, top = round(x0 / levels[level]), round(y0 / levels[level])
        try:
            pixels = self._slide.level_read(level, Box(left, top, left + side, top + side))
        except Her2PathError:
            return None
        how = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(pixels, (IMAGE_PX, IMAGE_PX), interpolation=how), np.uint8)

    def _from_thumbnail(self, x0: float, y0: float, step: float) -> Rgba:
        reduce = self.plane.width_px / self.thumbnail.shape[1]
        # centre of image pixel i -> position in the thumbnail's pixel centres
        shift = [(o + 0.5 * step) / reduce - 0.5 for o in (x0, y0)]
        move = np.array([[step / reduce, 0, shift[0]], [0, step / reduce, shift[1]]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        out = cv2.warpAffine(
            self.thumbnail,
            move,
            (IMAGE_PX, IMAGE_PX),
            flags=flags,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=_BEYOND,
        )
        return np.asarray(out, np.uint8)

    # -- overlays ------------------------------------------------------------------------------

    def overlay_tile(
        self, z: int, x: int, y: int, layers: Sequence[str], shown: NDArray[np.bool_],
        measure: str = SCORE,
    ) -> bytes:  # fmt: skip
        """Return the chosen layers of a tile as one PNG of at most 100 kB.

        Parameters
        ----------
        z, x, y : int
            Tile.
        layers : sequence of str
            Of `LAYERS`.
        shown : (classes,) bool
            Classes of the cells that are shown.
        measure : str
            What cells and heat map are coloured by.
        """
        canvas = np.zeros((IMAGE_PX, IMAGE_PX, 4), np.uint8)
        step, origin = self.plane.step(z), self.plane.origin(z, x, y)
        for name in ("tissue", "qc"):
            if name in layers and name in self._masks:
                self._draw_mask(canvas, name, origin, step)
        if "tumour" in layers:
            over(canvas, self.heat.tumour(origin, step, IMAGE_PX))
        if "heat" in layers:
            self._draw_smooth(canvas, origin, step, measure)
        if "cells" in layers:
            self._draw_cells(canvas, origin, step, shown, measure)
        if "regions" in layers:
            self._draw_regions(canvas, origin, step)
        if "annotations" in layers:
            for shape, line in self._annotations:
                draw_shape(canvas, shape, origin, step, (*line, 255), 3)
        return png(canvas)

    def _draw_cells(
        self, canvas: Rgba, origin: tuple[float, float], step: float, shown: NDArray[np.bool_],
        measure: str,
    ) -> None:  # fmt: skip
        um = step * self.plane.mpp
        if um > DOTS_UM:
            if measure == SCORE:
                over(canvas, self.heat.scores(origin, step, IMAGE_PX, shown))
            else:
                self._draw_smooth(canvas, origin, step, measure)
            return
        margin = int(np.ceil(self.index.reach_px))
        box = Box(
            int(origin[0]),
            int(origin[1]),
            int(origin[0] + IMAGE_PX * step) + 1,
            int(origin[1] + IMAGE_PX * step) + 1,
        ).grow(margin)
        rows = self.index.in_box(box)
        rows = rows[shown[self.index.cells.kind[rows]]]
        if um > OUTLINES_UM:
            self._draw_dots(canvas, rows, origin, step, measure)
        else:
            self._draw_outlines(canvas, rows, origin, step, measure)

    def _draw_smooth(
        self, canvas: Rgba, origin: tuple[float, float], step: float, measure: str
    ) -> None:
        if measure not in self._smooth:
            self._smooth[measure] = Smooth(self.index, self.measures.values(measure),
                                           self.plane.width_px, self.plane.height_px)  # fmt: skip
        mean, seen = self._smooth[measure].tile(origin, step, IMAGE_PX)
        colours = ramp(self.measures.measure(measure), mean)
        # where nothing is seen one colour: it costs nothing to send
        colours[seen == 0] = 0
        over(canvas, np.dstack([colours, seen]))

    def _colour(self, row: int) -> tuple[int, int, int]:
        cells = self.index.cells
        return GREY if cells.kind[row] == OTHER else _SCORE[max(0, int(cells.score[row]))]

    def _draw_outlines(
        self, canvas: Rgba, rows: NDArray[np.int64], origin: tuple[float, float], step: float,
        measure: str,
    ) -> None:  # fmt: skip
        # lines of one colour are drawn at one go: five times as fast as cell by cell
        def lines(which: NDArray[np.int64], colour: tuple[int, ...], width: int) -> None:
            if len(which):
                rings = list(fixed(self.index.outlines_px(which), origin, step))
                cv2.polylines(canvas, rings, True, colour, width, cv2.LINE_AA, SHIFT)

        # a white rim sets lines off from what they lie on; where cells are small it hides them
        if step * self.plane.mpp <= RIMS_UM:
            lines(rows, (255, 255, 255, 150), 4)
        lines(rows[self.index.corrected[rows]], (*_CORRECTED, 255), 6)
        for which, colour in self.measures.groups(measure, rows):
            lines(which, (*colour, 255), 2)

    def _draw_dots(
        self, canvas: Rgba, rows: NDArray[np.int64], origin: tuple[float, float], step: float,
        measure: str,
    ) -> None:  # fmt: skip
        radius = max(1, round(4.0 / (step * self.plane.mpp) * 2**SHIFT))
        for which, colour in self.measures.groups(measure, rows):
            cells = self.index.cells
            centre = np.stack([cells.x_px[which], cells.y_px[which]], axis=1)
            for x, y in fixed(centre, origin, step).tolist():
                cv2.circle(canvas, (x, y), radius, (*colour, 220), -1, cv2.LINE_AA, SHIFT)

    def _draw_regions(self, canvas: Rgba, origin: tuple[float, float], step: float) -> None:
        mpp, side = self.plane.mpp, IMAGE_PX * step
        view = shapely.box(*(v * mpp for v in (*origin, origin[0] + side, origin[1] + side)))
        for i in sorted(self._region_tree.query(view)):
            colour = rgb(AREA_COLOURS[self.regions[i]["area_class"]])
            shape = shapely.transform(self._region_shapes[i], lambda xy: xy / mpp)
            draw_shape(canvas, shape, origin, step, (*colour, 45), cv2.FILLED)
            draw_shape(canvas, shape, origin, step, (*colour, 255), 3)

    def _draw_mask(self, canvas: Rgba, name: str, origin: tuple[float, float], step: float) -> None:
        mask, size = self._masks[name]
        at = (np.arange(IMAGE_PX) + 0.5) * step
        columns = ((origin[0] + at) / size).astype(np.int64)
        rows = ((origin[1] + at) / size).astype(np.int64)
        padded = np.pad(mask, ((0, 1), (0, 1)))
        here = padded[np.minimum(rows, mask.shape[0])][:, np.minimum(columns, mask.shape[1])]
        over(canvas, _PAINT[name][here])

    # -- what lies under the pointer ---------------------------------------------------------------

    def region_at(self, x_px: float, y_px: float) -> dict[str, Any] | None:
        """Return the region that holds a level-0 point, without its polygon."""
        point = shapely.Point(x_px * self.plane.mpp, y_px * self.plane.mpp)
        for i in sorted(self._region_tree.query(point, predicate="intersects")):
            return {k: v for k, v in self.regions[i].items() if k != "polygon"}
        return None


def _annotations(store: RunStore, planes: Planes) -> list[tuple[Any, tuple[int, int, int]]]:
    if not store.annotations_path.is_file():
        return []
    try:
        read = read_annotations(store.annotations_path, store.settings().tumour, stored=True)
        read = read.moved(planes.file, planes.square)
    except Her2PathError:
        return []
    return [(a.polygon, (0, 110, 60) if a.role == "tumour" else (60, 60, 60)) for a in read.items]


def _masks(store: RunStore) -> dict[str, tuple[NDArray[np.uint8], float]]:
    """Return places in `_PAINT` for every mask, and their pixel size in level-0 px."""
    try:
        maps = store.maps()
        mpp = store.result().slide.mpp or 1.0
        places = {"tissue": lambda m: (m > 0).astype(np.uint8), "qc": first_code}
        return {
            n: (place(maps.read(n)), maps.mpp_um() / mpp)
            for n, place in places.items()
            if n in maps.names
        }
    except Her2PathError:
        return {}
