"""Artefacts that change a patch of a painted image: what `her2path.phantom.artefacts` lays on it.

Each function takes the part of the image that it changes as float32 grey levels (h, w, 3) and
returns it changed; where it holds is decided by a soft mask.
"""

from __future__ import annotations

from typing import Any

import cv2
import imagecodecs
import numpy as np
from numpy.typing import NDArray

from her2path.phantom.spec import PhantomSpec

__all__ = ["PATCHES"]

Part = NDArray[np.float32]


def _stains(spec: PhantomSpec, part: Part) -> tuple[Part, NDArray[np.float64]]:
    """Return the amounts (h, w, 3) of hematoxylin, DAB and rest, and the matrix back to OD."""
    h, d = (np.asarray(v) / np.linalg.norm(v) for v in (spec.hematoxylin, spec.dab))
    rest = np.cross(h, d)
    rows = np.stack([h, d, rest / np.linalg.norm(rest)])
    white = np.array(spec.white, np.float32)
    od = -np.log10(np.clip(part, 1.0, None) / white)
    return (od @ np.linalg.inv(rows)).astype(np.float32), rows


def _levels(spec: PhantomSpec, amounts: Part, rows: NDArray[np.float64]) -> Part:
    white = np.array(spec.white, np.float32)
    return np.asarray(white * 10.0 ** -(amounts @ rows), np.float32)


def _grain(rng: np.random.Generator, shape: tuple[int, ...], sigma_px: float) -> Part:
    """Return smooth noise of unit spread."""
    noise: Any = cv2.GaussianBlur(rng.normal(size=shape).astype(np.float32), (0, 0), sigma_px)
    return np.asarray(noise / max(float(noise.std()), 1e-6), np.float32)


def necrosis(spec: PhantomSpec, rng: np.random.Generator, part: Part) -> Part:
    """Ghosts and granular debris: no nuclei, no membranes, a few dark crumbs."""
    amounts, rows = _stains(spec, part)
    shape = part.shape[:2]
    fine, coarse = (_grain(rng, shape, s / spec.mpp) for s in (0.6, 3.0))
    od = np.clip(0.05 + 0.02 * fine + 0.015 * coarse, 0.0, None)
    crumbs = np.clip(_grain(rng, shape, 0.7 / spec.mpp) - 3.0, 0.0, None)
    amounts = np.stack([od + 0.15 * crumbs, 0.2 * od, 0 * od], axis=-1)
    return _levels(spec, amounts, rows)


def blush(spec: PhantomSpec, rng: np.random.Generator, part: Part) -> Part:
    """Diffuse DAB over everything, as serum or an over-long development leaves it."""
    amounts, rows = _stains(spec, part)
    slow = _grain(rng, part.shape[:2], 20.0 / spec.mpp)
    amounts[..., 1] += np.clip(0.25 + 0.03 * slow, 0.12, None)
    return _levels(spec, amounts, rows)


def pale(spec: PhantomSpec, _rng: np.random.Generator, part: Part) -> Part:
    """Counterstain that did not take: a sixth of the hematoxylin."""
    amounts, rows = _stains(spec, part)
    amounts[..., 0] *= 1.0 / 6.0
    return _levels(spec, amounts, rows)


def overexposed(_spec: PhantomSpec, _rng: np.random.Generator, part: Part) -> Part:
    """Exposure so long that the pale parts of tissue are clipped at white."""
    return np.asarray(part * np.float32(1.35), np.float32)


def jpeg_damage(_spec: PhantomSpec, _rng: np.random.Generator, part: Part) -> Part:
    """Blocks of a JPEG of quality 6."""
    rgb = np.clip(part + 0.5, 0, 255).astype(np.uint8)
    data = imagecodecs.jpeg8_encode(
        np.ascontiguousarray(rgb), level=6, colorspace="RGB", outcolorspace="YCBCR",
        subsampling="420",
    )  # fmt: skip
    return np.asarray(imagecodecs.jpeg8_decode(bytes(data)), np.float32)


def bubble(spec: PhantomSpec, _rng: np.random.Generator, part: Part) -> Part:
    """Air under the cover slip: vague, half the density, behind a dark rim (drawn apart)."""
    white = np.array(spec.white, np.float32)
    od = -np.log10(np.clip(part, 1.0, None) / white)
    vague: Any = cv2.GaussianBlur(od, (0, 0), 2.2 / spec.mpp)
    return np.asarray(white * 10.0 ** (-0.5 * vague), np.float32)


#: name of an artefact of `PhantomSpec`: what it does to a round patch
PATCHES = {
    "bubbles": bubble,
    "necrosis": necrosis,
    "blush_patches": blush,
    "pale_patches": pale,
    "overexposed": overexposed,
    "jpeg_damage": jpeg_damage,
}
