"""Artefacts laid on a painted image, and masks of where they lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from her2path.phantom.patches import PATCHES
from her2path.phantom.spec import PhantomSpec

F64 = NDArray[np.float64]
RGB = NDArray[np.uint8]
Mask = NDArray[np.uint8]

COVER_UM = 2.0
PENS = ((60, 70, 190), (40, 120, 60), (45, 40, 50), (190, 50, 60))


@dataclass(frozen=True)
class Covers:
    """Where artefacts lie: masks (h, w) at COVER_UM per sample, by the name in `PhantomSpec`."""

    masks: Mapping[str, Mask]

    @property
    def fold(self) -> Mask:
        """Folds."""
        return self.masks["folds"]

    @property
    def out_of_focus(self) -> Mask:
        """Blurred patches."""
        return self.masks["out_of_focus"]

    @property
    def pen(self) -> Mask:
        """Pen strokes."""
        return self.masks["pen"]

    def look(self, mask: Mask, at_um: F64) -> NDArray[np.bool_]:
        """Return the mask at points (n, 2)."""
        j = np.clip((at_um[:, 0] / COVER_UM).astype(np.int64), 0, mask.shape[1] - 1)
        i = np.clip((at_um[:, 1] / COVER_UM).astype(np.int64), 0, mask.shape[0] - 1)
        return mask[i, j] > 0


def add_artefacts(spec: PhantomSpec, image: RGB) -> Covers:
    """Lay the artefacts that `spec` asks for on the image, in place."""
    rng = spec.rng("artefacts")
    shape = (int(spec.height_um / COVER_UM) + 1, int(spec.width_um / COVER_UM) + 1)
    covers = Covers({name: np.zeros(shape, np.uint8) for name in ARTEFACTS})
    # the first four drew from one stream before there were others: phantoms stay what they were
    lay = {"folds": _fold, "out_of_focus": _defocus, "dust": _speck, "pen": _pen,
           "tears": _tear, "smudges": _smudge}  # fmt: skip
    for name, draw in lay.items():
        for _ in range(getattr(spec, name)):
            draw(spec, rng, image, covers.masks[name])
    for name in PATCHES:
        for _ in range(getattr(spec, name)):
            _patch(spec, rng, image, covers.masks[name], name)
    return covers


#: artefacts of `PhantomSpec`, each with a mask of its own
ARTEFACTS = ("folds", "out_of_focus", "pen", "dust", "tears", "smudges", *PATCHES)


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


def _speck(spec: PhantomSpec, rng: np.random.Generator, image: RGB, mask: Mask) -> None:
    """A dark speck or a thread, somewhat out of focus."""
    at = rng.uniform(0, 1, 2) * (spec.width_um, spec.height_um)
    steps = 40 if rng.random() < 0.3 else 3
    course = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.25, steps))
    size = rng.uniform(0.6, 2.0)
    path = at + size * np.cumsum(np.stack([np.cos(course), np.sin(course)], axis=1), axis=0)
    width = rng.uniform(0.8, 3.5)
    _stroke(mask, path, COVER_UM, width)
    found = _soft_stroke(spec, image, path, width, rng.uniform(0.3, 1.4))
    if found is None:
        return
    window, soft = found
    dark = 1 - soft * rng.uniform(0.3, 0.8)
    image[window] = np.clip(image[window] * dark + 0.5, 0, 255).astype(np.uint8)


def _tear(spec: PhantomSpec, rng: np.random.Generator, image: RGB, mask: Mask) -> None:
    """A crack through the section: bare glass between dark, frayed edges."""
    path, width = _path(spec, rng, 0.6), rng.uniform(20, 34)
    _stroke(mask, path, COVER_UM, width)
    for reach, level in ((width + 3.0, 0.7), (width, 1.0)):
        found = _soft_stroke(spec, image, path, reach, 0.6)
        if found is None:
            return
        window, soft = found
        part = image[window].astype(np.float32)
        new = np.array(spec.white, np.float32) if level == 1.0 else part * level
        image[window] = np.clip(part + soft * (new - part) + 0.5, 0, 255).astype(np.uint8)


def _smudge(spec: PhantomSpec, rng: np.random.Generator, image: RGB, mask: Mask) -> None:
    """Grey matter out of the focal plane, or a blue crumb of precipitated hematoxylin."""
    centre = rng.uniform(0.15, 0.85, 2) * (spec.width_um, spec.height_um)
    blue = rng.random() < 0.5
    size = rng.uniform(24, 44) if blue else rng.uniform(60, 110)
    path = centre + rng.normal(0, size / 5, (4, 2))
    _stroke(mask, path, COVER_UM, size)
    found = _soft_stroke(spec, image, path, size, size / 16)
    if found is None:
        return
    window, soft = found
    part = image[window].astype(np.float32)
    if blue:
        colour = np.array((0.40, 0.34, 0.02), np.float32)
        new = part * 10.0**-colour
    else:
        vague: Any = cv2.GaussianBlur(part, (0, 0), 1.5 / spec.mpp)
        new = vague * 10.0**-0.25
    image[window] = np.clip(part + soft * (new - part) + 0.5, 0, 255).astype(np.uint8)


def _patch(spec: PhantomSpec, rng: np.random.Generator, image: RGB, mask: Mask, name: str) -> None:
    """A round patch that one of `PATCHES` changes."""
    centre = rng.uniform(0.25, 0.75, 2) * (spec.width_um, spec.height_um)
    radius = min(rng.uniform(0.12, 0.2) * min(spec.width_um, spec.height_um), 200.0)
    spot = np.rint(centre / COVER_UM).astype(int)
    cv2.circle(mask, (int(spot[0]), int(spot[1])), max(1, int(radius / COVER_UM)), 255, -1)
    ends = centre[None, :] + np.zeros((2, 1))
    found = _soft_stroke(spec, image, ends, 2 * radius, 1.5)
    if found is None:
        return
    (rows, columns), soft = found
    # JPEG blocks lie on the image's grid
    top, left = rows.start % 8, columns.start % 8
    window = (slice(rows.start - top, rows.stop), slice(columns.start - left, columns.stop))
    soft = np.pad(soft, ((top, 0), (left, 0), (0, 0)))
    part = image[window].astype(np.float32)
    new = PATCHES[name](spec, rng, part)
    if name == "bubbles":
        inner = _soft_stroke(spec, image, ends, 2 * (radius - 6.0), 1.0)
        if inner is not None:
            rim = soft.copy()
            y, x = inner[0][0].start - window[0].start, inner[0][1].start - window[1].start
            rim[y : y + inner[1].shape[0], x : x + inner[1].shape[1]] -= inner[1]
            new = new * 10.0 ** (-0.45 * np.clip(rim, 0, 1))
    image[window] = np.clip(part + soft * (new - part) + 0.5, 0, 255).astype(np.uint8)
