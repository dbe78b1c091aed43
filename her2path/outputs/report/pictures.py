"""Pixels of a report: the overview, the layer of scored cells over it, and cell patches."""

from __future__ import annotations

import io
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from her2path.cells.qc import CODES, first_code, names_of
from her2path.outputs.palette import SCORE_COLOURS, rgb
from her2path.outputs.report.context import CannotSay, SlideContext

__all__ = ["Overview", "jpeg", "overview", "qc_layer", "score_layer"]

#: longer side of the overview in a report, pixels
OVERVIEW_PX = 900
#: radius of a cell's dot in the layer, µm
DOT_UM = 7.0


@dataclass(frozen=True)
class Overview:
    """The overview and the layer of cells, encoded."""

    image: bytes
    layer: bytes | None
    quality: bytes | None
    codes: tuple[str, ...]
    width: int
    height: int
    um_per_px: float | None

    @property
    def bar(self) -> tuple[float, float] | None:
        """Scale bar: its length in mm and in per cent of the width."""
        if self.um_per_px is None:
            return None
        whole_mm = self.width * self.um_per_px / 1000
        steps = [m * 10.0**e for e in range(-3, 3) for m in (1, 2, 5)]
        length = max((s for s in steps if s <= whole_mm / 4), default=whole_mm)
        return length, 100 * length / whole_mm


def overview(context: SlideContext) -> Overview:
    """Return the overview with a layer of tumour cells coloured by score.

    Raises
    ------
    CannotSay
        Where no overview was stored.
    """
    image = Image.fromarray(context.thumbnail)
    image.thumbnail((OVERVIEW_PX, OVERVIEW_PX), Image.Resampling.BOX)
    width_px, height_px = context.get("slide.width_px"), context.get("slide.height_px")
    mpp = context.get("slide.mpp_x") or context.get("slide.mpp")
    known = bool(width_px and height_px)
    scale = (image.width / width_px, image.height / height_px) if known else None
    layer = None
    if scale and context.evaluable:
        try:
            layer = _png(score_layer(context, (image.height, image.width), scale))
        except CannotSay:
            layer = None  # the overview alone is worth more than nothing
    um = mpp / scale[0] if scale and mpp else None
    quality, codes = qc_layer(context, (image.height, image.width)) if known else (None, ())
    return Overview(
        jpeg(np.asarray(image), 82), layer, quality, codes, image.width, image.height, um
    )


def qc_layer(context: SlideContext, shape: tuple[int, int]) -> tuple[bytes | None, tuple[str, ...]]:
    """Return the quality map as a PNG (H, W), and the names of what it shows; None without any.

    Fields without epithelium stay in: they are not drawn.
    """
    try:
        codes = context.codes
    except CannotSay:
        return None, ()
    codes = codes & ~np.uint16(CODES["no_epithelium"].value)
    if not codes.any():
        return None, ()
    # map cells are whole; the last ones may reach beyond the slide
    mpp_um = context.codes_um
    width_um, height_um = (
        context.get(f"slide.{side}_px") * (context.get(f"slide.mpp_{axis}")
                                           or context.get("slide.mpp") or 0.25)
        for side, axis in (("width", "x"), ("height", "y"))
    )  # fmt: skip
    rows = ((np.arange(shape[0]) + 0.5) * height_um / shape[0] / mpp_um).astype(np.int64)
    columns = ((np.arange(shape[1]) + 0.5) * width_um / shape[1] / mpp_um).astype(np.int64)
    rows, columns = np.minimum(rows, codes.shape[0] - 1), np.minimum(columns, codes.shape[1] - 1)
    image = Image.fromarray(first_code(codes)[rows][:, columns]).convert("P")
    image.putpalette([0, 0, 0] + [v for c in CODES.values() for v in rgb(c.colour)])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=0, optimize=True)
    return buffer.getvalue(), tuple(names_of(codes))


def score_layer(
    context: SlideContext, shape: tuple[int, int], scale: tuple[float, float]
) -> NDArray[np.uint8]:
    """Return codes (H, W): 0 no cell, else 1 + the score that most tumour cells there have.

    ``scale`` is layer pixels per level-0 pixel, along x and y. Ties go to the higher score.
    """
    cells = context.tumour
    x = (cells["x_px"].to_numpy() * scale[0]).astype(np.int64)
    y = (cells["y_px"].to_numpy() * scale[1]).astype(np.int64)
    score = cells["score"].to_numpy().astype(np.int64)
    inside = (x >= 0) & (y >= 0) & (x < shape[1]) & (y < shape[0]) & (score >= 0)
    flat = (score[inside] * shape[0] + y[inside]) * shape[1] + x[inside]
    counts = np.bincount(flat, minlength=4 * shape[0] * shape[1]).reshape(4, *shape)
    radius = DOT_UM * scale[0] / (context.get("slide.mpp_x") or context.get("slide.mpp") or 0.25)
    if radius >= 0.75:
        reach = int(np.ceil(radius))
        yy, xx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        disc = (yy**2 + xx**2 <= radius**2).astype(np.float32)
        # whole numbers far below 2**24 add up exactly in float32, in any order
        spread = [
            cv2.filter2D(c.astype(np.float32), -1, disc, borderType=cv2.BORDER_CONSTANT)
            for c in counts
        ]
        counts = np.round(np.stack(spread)).astype(np.int64)
    # argmax takes the first of equals: look from the highest score down
    winner = 3 - np.argmax(counts[::-1], axis=0)
    codes = np.where(counts.sum(axis=0) > 0, winner + 1, 0)
    return codes.astype(np.uint8)


def _png(codes: NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(codes).convert("P")
    image.putpalette([0, 0, 0] + [v for c in SCORE_COLOURS.values() for v in rgb(c)])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=0, optimize=True)
    return buffer.getvalue()


def jpeg(pixels: NDArray[np.uint8], quality: int = 85) -> bytes:
    """Return RGB pixels as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, optimize=True)
    return buffer.getvalue()
