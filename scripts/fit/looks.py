"""Real pictures as worse scanners would show them: soft, grey, coarse, clipped.

A look is made of the very pixels, so that what is known of a picture's cells still holds.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from scripts.phantoms.jpeg import through_jpeg

__all__ = ["LOOKS", "Look", "as_seen"]

#: grey level of glass on the cores as they are
GLASS = 238.0


@dataclass(frozen=True)
class Look:
    """Blur (sigma, µm), µm per pixel, grey level of glass, JPEG quality, noise (SD)."""

    blur_um: float
    mpp: float
    glass: float
    quality: int
    noise: float


LOOKS: dict[str, Look | None] = {
    "as_is": None,
    "soft": Look(0.45, 0.46, 176.0, 60, 1.0),
    "grey": Look(0.10, 0.25, 175.0, 70, 1.5),
    "coarse": Look(0.20, 0.50, 236.0, 75, 0.8),
    "clipped": Look(0.30, 0.35, 262.0, 50, 1.2),
}
"""The looks by name; ``as_is`` changes nothing."""


def as_seen(rgb: np.ndarray, mpp: float, look: str, seed: int = 0) -> tuple[np.ndarray, float]:
    """Return a picture as a look shows it, and its µm per pixel.

    Parameters
    ----------
    rgb : uint8 (H, W, 3)
    mpp : float
        µm per pixel of ``rgb``; a look that is finer keeps it.
    look : str
        One of `LOOKS`.
    seed : int
        Of the noise.
    """
    how = LOOKS[look]
    if how is None:
        return rgb, mpp
    light = rgb.astype(np.float32)
    light = cv2.GaussianBlur(light, (0, 0), how.blur_um / mpp, borderType=cv2.BORDER_REFLECT)
    to = max(how.mpp, mpp)
    if how.mpp > mpp * 1.02:
        rows, columns = (max(8, round(n * mpp / to)) for n in rgb.shape[:2])
        light = cv2.resize(light, (columns, rows), interpolation=cv2.INTER_AREA)
    light = light * (how.glass / GLASS)
    light = light + np.random.default_rng(seed).normal(0, how.noise, light.shape)
    grey = np.clip(np.rint(light), 0, 255).astype(np.uint8)
    return through_jpeg(grey, how.quality, halved=True), to
