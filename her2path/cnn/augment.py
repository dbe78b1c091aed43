"""What training does to patches: turns, JPEG, blur, noise, and other stains in OD space."""

from __future__ import annotations

import cv2
import imagecodecs
import numpy as np
from numpy.typing import NDArray

from her2path.cells.stain import StainModel
from her2path.cnn.patches import CHANNELS, OD_SCALE, Patches, planes

__all__ = ["batch_planes", "spoil", "turn"]

Rng = np.random.Generator
#: how often each spoiler is used
OFTEN = 0.3
#: spread of the natural log of the two stains' strength; DAB's is small: it is the class
GAIN_H, GAIN_D = 0.20, 0.05
#: spread of the share of one stain that is read as the other, and of a plane's offset (OD)
CROSS_TALK, OFFSET = 0.04, 0.008


def batch_planes(
    patches: Patches, rows: NDArray[np.int64], channels: str, rng: Rng | None = None
) -> NDArray[np.float32]:
    """Return the planes of some patches, float32 (n, C, P, P); varied where ``rng`` is given."""
    window = patches.window.patch_px
    out = np.empty((len(rows), CHANNELS[channels], window, window), np.float32)
    rgb = patches.rgb[rows]
    if rng is not None:
        rgb = np.stack([spoil(turn(one, rng), rng) for one in rgb])
    which = patches.stain[rows]
    for k in np.unique(which):
        mine = which == k
        out[mine] = planes(rgb[mine], patches.stains[k], channels)
    return out if rng is None else _restain(out, [patches.stains[k] for k in which], rng)


def turn(rgb: NDArray[np.uint8], rng: Rng) -> NDArray[np.uint8]:
    """Return the patch (P, P, 3) turned by a multiple of 90 degrees, and mirrored or not."""
    turned = np.rot90(rgb, int(rng.integers(4)))
    return np.ascontiguousarray(turned[:, ::-1] if rng.random() < 0.5 else turned)


def spoil(rgb: NDArray[np.uint8], rng: Rng) -> NDArray[np.uint8]:
    """Return the patch blurred, noisy or compressed, each some of the time."""
    if rng.random() < OFTEN:
        rgb = np.asarray(cv2.GaussianBlur(rgb, (0, 0), float(rng.uniform(0.3, 1.1))), np.uint8)
    if rng.random() < OFTEN:
        noise = rng.normal(0.0, rng.uniform(0.5, 4.0), rgb.shape)
        rgb = np.clip(np.rint(rgb + noise), 0, 255).astype(np.uint8)
    if rng.random() < OFTEN:
        rgb = imagecodecs.jpeg8_decode(
            imagecodecs.jpeg8_encode(
                rgb,
                level=int(rng.integers(40, 96)),
                colorspace="RGB",
                outcolorspace="YCBCR",
                subsampling=str(rng.choice(["420", "444"])),
            )
        )
    return rgb


def _restain(x: NDArray[np.float32], stains: list[StainModel], rng: Rng) -> NDArray[np.float32]:
    """Vary strength, cross-talk and offset of the stains in OD space."""
    n, c = x.shape[:2]
    mix = np.repeat(np.eye(c)[None], n, axis=0)
    own = np.repeat(np.eye(2)[None], n, axis=0)
    own[:, 0, 0] = np.exp(rng.normal(0, GAIN_H, n))
    own[:, 1, 1] = np.exp(rng.normal(0, GAIN_D, n))
    own[:, 0, 1], own[:, 1, 0] = rng.normal(0, CROSS_TALK, (2, n))
    mix[:, :2, :2] = own
    if c == 3:  # from RGB OD to amounts of stain, vary, and back
        basis = np.stack([_basis(s) for s in stains])
        mix = np.swapaxes(np.linalg.inv(basis) @ np.swapaxes(mix, 1, 2) @ basis, 1, 2)
    flat = x.reshape(n, c, -1)
    offset = rng.normal(0, OFFSET * OD_SCALE, (n, c, 1))
    varied = np.matmul(mix.astype(np.float32), flat) + offset.astype(np.float32)
    return np.asarray(varied.reshape(x.shape), np.float32)


def _basis(model: StainModel) -> NDArray[np.float64]:
    h, d = np.array(model.hematoxylin), np.array(model.dab)
    rest = np.cross(h, d)
    return np.stack([h, d, rest / np.linalg.norm(rest)])
