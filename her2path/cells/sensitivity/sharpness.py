"""How soft a slide is, by its own edges.

The steepest edges of a picture are taken at two small scales. A step that the slide shows with
spread s has a slope of 1 / sqrt(s^2 + a^2) where the picture is smoothed by a; the ratio of the
slopes at two scales gives s (Zhuo & Sim 2011, Defocus map estimation from a single image, Pattern
Recognition 44:1852). Edges of tissue are not steps: what a sharp scan shows is taken off.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["SHARP_UM", "blur_of", "edge_spread"]

U8 = NDArray[np.uint8]

#: the two scales, µm
FINE_UM, COARSE_UM = 0.40, 0.80
#: side of the piece in the middle that is looked at, px
PIECE = 512
#: share of a field's pixels whose slopes count as edges
STEEPEST = 0.01
#: spread of the edges of a sharp scan of tissue, µm (cores at 0.25 µm/px: 0.15 to 0.27)
SHARP_UM = 0.25


def edge_spread(rgb: U8, mpp: float) -> float:
    """Return the spread (sigma, µm) of the steepest edges of a picture, uint8 (H, W, 3).

    The median over the steepest one in a hundred places; infinity where nothing is seen.
    """
    y, x = (max(0, (n - PIECE) // 2) for n in rgb.shape[:2])
    rgb = rgb[y : y + PIECE, x : x + PIECE]
    light = cv2.transform(rgb, np.full((1, 3), 1 / 3, np.float32)).astype(np.float32)
    fine, coarse = (_slope(light, scale / mpp) for scale in (FINE_UM, COARSE_UM))
    edge = coarse >= np.quantile(coarse, 1 - STEEPEST)
    edge &= coarse > 0
    if not edge.any():
        return float("inf")
    ratio = float(np.median(fine[edge] / coarse[edge])) ** 2
    if ratio <= 1.0:
        return float("inf")
    square = (COARSE_UM**2 - ratio * FINE_UM**2) / (ratio - 1.0)
    return float(np.sqrt(max(square, 0.0)))


def _slope(light: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    smooth = cv2.GaussianBlur(light, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    dy = smooth[2:, 1:-1] - smooth[:-2, 1:-1]
    dx = smooth[1:-1, 2:] - smooth[1:-1, :-2]
    return np.asarray(np.hypot(dx, dy), np.float32)


def blur_of(spreads: list[float]) -> float:
    """Return by how much (sigma, µm) a slide is softer than a sharp one, of its fields' spreads."""
    known = [s for s in spreads if np.isfinite(s)]
    if not known:
        return 0.0
    return float(np.sqrt(max(np.median(known) ** 2 - SHARP_UM**2, 0.0)))
