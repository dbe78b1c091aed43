"""What a detector returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["RAYS", "Nuclei"]

#: rays of a contour, clockwise on screen from +x
RAYS = 48

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Nuclei:
    """Nuclei of a block: one array per property, all of the same length.

    Positions are analysis pixels of the block; the centre of pixel (0, 0) is x = 0.0, y = 0.0.

    Attributes
    ----------
    y, x : float32 (N,)
        Centroid of the contour, multiples of 1/16 pixel.
    radii : float32 (N, 48)
        Star-convex contour around (y, x), pixels; ray k points at 2 pi k / 48, clockwise on screen
        (x = cos, y = sin, y downward).
    area_px : float32 (N,)
        Area of the contour, pixels.
    hematoxylin, dab : float32 (N,)
        Mean OD inside.
    contrast : float32 (N,)
        Mean drop of hematoxylin OD across the contour.
    elongation : float32 (N,)
        Long over short axis, from second moments.
    irregularity : float32 (N,)
        1 - 4 pi area / perimeter²: 0 for a circle.
    texture : float32 (N,)
        Standard deviation of hematoxylin inside over its mean.
    confidence : float32 (N,)
        How nucleus-like the contour reads, 0..1.
    """

    y: F32
    x: F32
    radii: F32
    area_px: F32
    hematoxylin: F32
    dab: F32
    contrast: F32
    elongation: F32
    irregularity: F32
    texture: F32
    confidence: F32

    def __len__(self) -> int:
        """Return how many nuclei there are."""
        return len(self.y)

    def take(self, which: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Nuclei:
        """Return the chosen nuclei, by index or by mask."""
        return Nuclei(**{name: getattr(self, name)[which] for name in self.__dataclass_fields__})
