"""Folds, out-of-focus patches, pen strokes and dust, laid on a painted image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from her2path.phantom.spec import PhantomSpec

F64 = NDArray[np.float64]
RGB = NDArray[np.uint8]
Mask = NDArray[np.uint8]

COVER_UM = 2.0
PENS = ((60, 70, 190), (40, 120, 60), (45, 40, 50), (190, 50, 60))


@dataclass(frozen=True)
class Covers:
    """Where artefacts lie: masks at COVER_UM per sample."""

    fold: Mask
    out_of_focus: Mask
    pen: Mask

    def look(self, mask: Mask, at_um: F64) -> NDArray[np.bool_]:
        """Return the mask at points (n, 2)."""
        j = np.clip((at_um[:, 0] / COVER_UM).astype(np.int64), 0, mask.shape[1] - 1)
        i = np.clip((at_um[:, 1] / COVER_UM).astype(np.int64), 0, mask.shape[0] - 1)
        return mask[i, j] > 0


def add_artefacts(spec: PhantomSpec, image: RGB) -> Covers:
    """Lay the artefacts that `spec` asks for on the image, in place."""
    rng = spec.rng("artefacts")
    shape = (int(spec.height_um / COVER_UM) + 1, int(spec.width_um / COVER_UM) + 1)
    covers = Covers(*(np.zeros(shape, np.uint8) for _ in range(3)))
    for _ in range(spec.folds):
        _fold(spec, rng, image, covers.fold)
    for _ in range(spec.out_of_focus):
        _defocus(spec, rng, image, covers.out_of_focus)
    for _ in range(spec.dust):
        _speck(spec, rng, image)
    for _ in range(spec.pen):
        _pen(spec, rng, image, covers.pen)
    return covers


def _path(spec: PhantomSpec, rng: np.random.Generator, share: float) -> F64:
    """Return a gently bent line (24, 2) in um across the image."""
    centre = rng.uniform(0.25, 0.75, 2) * (spec.width_um, spec.height_um)
    length = share * min(spec.width_um, spec.height_um)
    angle, bend = rng.uniform(0, np.pi), rng.normal(0, 0.5)
    t = np.linspace(-0.5, 0.5, 24)
    along = angle + bend * 2 * t
    return centre + length * t[:, None] * np.stack([np.cos(along), np.sin(along)], axis=1)


def _stroke(mask: Mask, path_um: F64, scale_um: float, width_um: float) -> None:
    points = np.rint(path_um / scale_um).astype(np.int32)
    width = max(1, round(width_um / scale_um))
    cv2.polylines(mask, [points], isClosed=False, color=255, thickness=width)


def _window(path_px: F64, pad: int, shape: tuple[int, ...]) -> tuple[slice, slice] | None:
    """Return the rows and columns of the image around a path, None if outside."""
    low, high = path_px.min(axis=0) - pad, path_px.max(axis=0) + pad
    x0, y0 = max(0, int(low[0])), max(0, int(low[1]))
    x1, y1 = min(shape[1], int(high[0]) + 1), min(shape[0], int(high[1]) + 1)
    return (slice(y0, y1), slice(x0, x1)) if x1 - x0 > 3 and y1 - y0 > 3 else None


def _soft_stroke(
    spec: PhantomSpec, image: RGB, path_um: F64, width_um: float, soft_um: float
) -> tuple[tuple[slice, slice], Any] | None:
    """Return a window of the image and a soft mask (h, w, 1) of a stroke in it."""
    path = path_um / spec.mpp
    window = _window(path, int((width_um + 4 * soft_um) / spec.mpp) + 8, image.shape)
    if window is None:
        return None
    shape = image[window].shape[:2]
    mask = np.zeros(shape, np.uint8)
    offset = np.array([window[1].start, window[0].start]) * spec.mpp
    _stroke(mask, path_um - offset, spec.mpp, width_um)
    soft: Any = cv2.GaussianBlur(mask, (0, 0), max(0.5, soft_um / spec.mpp))
    return window, soft[..., None].astype(np.float32) / 255


def _fold(spec: PhantomSpec, rng: np.random.Generator, image: RGB, mask: Mask) -> None:
    """A band where the section lies double: densities of two places add up."""
    path, width = _path(spec, rng, 0.7), rng.uniform(14, 34)
    _stroke(mask, path, COVER_UM, width + 6)
    found = _soft_stroke(spec, image, path, width, 1.5)
    if found is None:
        return
    window, soft = found
    part = image[window].astype(np.float32)
    shift = (rng.uniform(-1, 1, 2) * 30 / spec.mpp).astype(int)
    over = np.roll(part, (int(shift[0]), int(shift[1])), axis=(0, 1))
    over = cv2.GaussianBlur(over, (0, 0), 1.2 / spec.mpp)
    double = part * np.minimum(over / np.array(spec.white, np.float32), 1.0)
    image[window] = np.clip(part + soft * (double - part) + 0.5, 0, 255).astype(np.uint8)


def _defocus(spec: PhantomSpec, rng: np.random.Generator, image: RGB, mask: Mask) -> None:
    """A patch that the scanner focused badly."""
    centre = rng.uniform(0.2, 0.8, 2) * (spec.width_um, spec.height_um)
    radius = rng.uniform(0.12, 0.25) * min(spec.width_um, spec.height_um)
    radius = min(radius, 260.0)
    spot = np.rint(centre / COVER_UM).astype(int)
    cv2.circle(mask, (int(spot[0]), int(spot[1])), max(1, int(0.9 * radius / COVER_UM)), 255, -1)
    found = _soft_stroke(spec, image, centre[None, :] + np.zeros((2, 1)), 2 * radius, radius / 8)
    if found is None:
        return
    window, soft = found
    part = image[window].astype(np.float32)
    vague: Any = cv2.GaussianBlur(part, (0, 0), rng.uniform(1.3, 3.0) / spec.mpp)
    image[window] = np.clip(part + soft * (vague - part) + 0.5, 0, 255).astype(np.uint8)


def _pen(spec: PhantomSpec, rng: np.random.Generator, image: RGB, mask: Mask) -> None:
    """A felt-tip stroke on the cover glass, out of focus."""
    path, width = _path(spec, rng, 0.9), rng.uniform(0.05, 0.1) * spec.height_um
    width = min(max(width, 12.0), 300.0)
    _stroke(mask, path, COVER_UM, width + 6)
    found = _soft_stroke(spec, image, path, width, 3.0)
    if found is None:
        return
    window, soft = found
    ink = np.array(PENS[int(rng.integers(len(PENS)))], np.float32) / 255
    part = image[window].astype(np.float32)
    image[window] = np.clip(part * (1 - soft * (1 - ink)) + 0.5, 0, 255).astype(np.uint8)


def _speck(spec: PhantomSpec, rng: np.random.Generator, image: RGB) -> None:
    """A dark speck or a thread, somewhat out of focus."""
    at = rng.uniform(0, 1, 2) * (spec.width_um, spec.height_um)
    steps = 40 if rng.random() < 0.3 else 3
    course = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.25, steps))
    size = rng.uniform(0.6, 2.0)
    path = at + size * np.cumsum(np.stack([np.cos(course), np.sin(course)], axis=1), axis=0)
    found = _soft_stroke(spec, image, path, rng.uniform(0.8, 3.5), rng.uniform(0.3, 1.4))
    if found is None:
        return
    window, soft = found
    dark = 1 - soft * rng.uniform(0.3, 0.8)
    image[window] = np.clip(image[window] * dark + 0.5, 0, 255).astype(np.uint8)
