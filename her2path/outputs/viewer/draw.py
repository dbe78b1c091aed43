"""Drawing on a tile: whole numbers are pixel centres, lines are drawn at sixteenths of a pixel."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["SHIFT", "Rgba", "draw_shape", "fixed", "over"]

Rgba = NDArray[np.uint8]
#: cv2 draws at 1 / 2**SHIFT of a pixel
SHIFT = 4


def fixed(points: NDArray[Any], origin: tuple[float, float], step: float) -> NDArray[np.int32]:
    """Return level-0 points in a tile's fixed-point pixels; whole numbers are pixel centres."""
    local = (points - np.asarray(origin)) / step - 0.5
    fixed: NDArray[np.int32] = np.round(local * 2**SHIFT).astype(np.int32)
    return fixed


def draw_shape(
    canvas: Rgba, shape: Any, origin: tuple[float, float], step: float,
    colour: tuple[int, ...], thickness: int,
) -> None:  # fmt: skip
    """Draw a polygon or multipolygon with its holes, in place; thickness as in OpenCV."""
    for part in getattr(shape, "geoms", [shape]):
        rings = [part.exterior, *part.interiors]
        lines = [fixed(np.asarray(r.coords)[:, :2], origin, step) for r in rings]
        if thickness == cv2.FILLED:
            layer = np.zeros_like(canvas)
            cv2.fillPoly(layer, lines, colour, cv2.LINE_AA, SHIFT)
            over(canvas, layer)
        else:
            cv2.polylines(canvas, lines, True, colour, thickness, cv2.LINE_AA, SHIFT)


def over(canvas: Rgba, layer: Rgba) -> None:
    """Lay one RGBA image over another, in place (straight alpha)."""
    top = layer[..., 3:].astype(np.float32) / 255
    under = canvas[..., 3:].astype(np.float32) / 255 * (1 - top)
    alpha = top + under
    mixed = (layer[..., :3] * top + canvas[..., :3] * under) / np.maximum(alpha, 1e-6)
    canvas[..., :3] = np.round(mixed).astype(np.uint8)
    canvas[..., 3:] = np.round(alpha * 255).astype(np.uint8)
