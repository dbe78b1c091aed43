"""What a JPEG would have shown of a change to its picture, had the change been there before.

Decoded pixels lie on the middle of the JPEG's steps. A faint change laid into them is less than
half a step in most of the frequencies, and compressed once more it would round to nothing, while
the same change before the compression moves what lies near a step's edge over it. So the picture
before its compression is drawn: every coefficient anywhere within its step (evenly; of those that
were rounded to zero, as a Laplacian of that frequency has them), the change is added, and the sum
is rounded to the JPEG's steps. Without a change the picture stays bit for bit what it is.

References
----------
ITU-T T.81 (1992), annex K: the tables; the scaling by quality is the Independent JPEG Group's. Lam
EY, Goodman JW (2000), A mathematical analysis of the DCT coefficient distributions for images, IEEE
Trans Image Process 9:1661-1666.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from her2path.cells.sensitivity.compression import Jpeg

__all__ = ["recompress"]

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

LUMA = np.array([
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
], np.float32).reshape(8, 8)  # fmt: skip
CHROMA = np.full((8, 8), 99, np.float32)
CHROMA[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
#: rows are the cosines of a block's transform
COSINES = np.array([
    [np.sqrt((1 if k == 0 else 2) / 8) * np.cos((2 * n + 1) * k * np.pi / 16) for n in range(8)]
    for k in range(8)
], np.float32)  # fmt: skip
TO_YCC = np.array([
    [0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312],
], np.float32)  # fmt: skip
TO_RGB = np.array([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]], np.float32)
#: side of a square that holds whole blocks of every plane, px
SIDE = 16
#: rows and columns of pixels to one of chroma, by OpenCV's code of the subsampling
GRAIN = {
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420: (2, 2),
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422: (1, 2),
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444: (1, 1),
}


def recompress(before: U8, after: U8, how: Jpeg | None, seed: int) -> U8:
    """Return a changed picture as the JPEG of the unchanged one would show it.

    Parameters
    ----------
    before, after : uint8 (H, W, 3)
        Decoded pixels, and the same with a change; their first pixel lies on a corner of the JPEG's
        blocks.
    how : Jpeg or None
        The compression; without one the change is shown as it is.
    seed : int
        Of the draw of what the compression took.
    """
    if how is None:
        return after
    height, width = before.shape[:2]
    edge = ((0, -height % SIDE), (0, -width % SIDE), (0, 0))
    old, new = (_squares(np.pad(p, edge, mode="edge")) for p in (before, after))
    at = np.nonzero((old != new).any(axis=(2, 3, 4)))
    if not len(at[0]):
        return after
    was = old[at].astype(np.float32)
    change = (new[at].astype(np.float32) - was) @ TO_YCC.T
    parts = was @ TO_YCC.T - np.array([128, 0, 0], np.float32)
    shown = np.empty_like(was)
    rng = np.random.default_rng(seed)
    for k in range(3):
        tall, wide = (1, 1) if k == 0 else GRAIN[how.sampling]
        (down, up), (left, right) = _mean_of(tall), _mean_of(wide)
        steps = _steps(LUMA if k == 0 else CHROMA, how.quality)
        small = [np.asarray(down @ p[..., k] @ left.T, np.float32) for p in (parts, change)]
        moved = _moved(small[0], small[1], steps, rng)
        shown[..., k] = up @ moved @ right.T
    new[at] = np.clip(np.rint(was + shown @ TO_RGB.T), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(new.swapaxes(1, 2).reshape(*_whole(new), 3)[:height, :width])


def _squares(picture: U8) -> U8:
    """Return a picture as its squares of `SIDE` pixels, (rows, columns, `SIDE`, `SIDE`, 3)."""
    height, width = picture.shape[:2]
    return picture.reshape(height // SIDE, SIDE, width // SIDE, SIDE, 3).swapaxes(1, 2)


def _whole(squares: U8) -> tuple[int, int]:
    return squares.shape[0] * SIDE, squares.shape[1] * SIDE


def _mean_of(grain: int) -> tuple[F32, F32]:
    """Return what takes the mean of so many pixels along a side, and what spreads it again."""
    few = SIDE // grain
    down = np.repeat(np.eye(few, dtype=np.float32), grain, axis=1) / np.float32(grain)
    at = (np.arange(SIDE) + 0.5) / grain - 0.5
    near = np.maximum(1 - np.abs(np.clip(at, 0, few - 1)[:, None] - np.arange(few)), 0)
    return down, near.astype(np.float32)


def _steps(table: F32, quality: int) -> F32:
    """Return the quantization steps of a quality, float32 (8, 8)."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip(np.floor((table * scale + 50) / 100), 1, 255).astype(np.float32)


def _moved(old: F32, change: F32, steps: F32, rng: np.random.Generator) -> F32:
    """Return by how much the JPEG's planes (N, H, W) move under a change (N, H, W)."""
    kept = np.rint(COSINES @ _blocks(old) @ COSINES.T / steps)
    zero = kept == 0
    # as many pass the edge of the step about zero as a Laplacian of this width has beyond it
    beyond = np.clip(1 - zero.mean(axis=(0, 1, 2)), 1e-4, 1 - 1e-4).astype(np.float32)
    u = rng.random(kept.shape, np.float32) - np.float32(0.5)
    near = np.log1p(-2 * np.abs(u) * (1 - beyond)) * (np.float32(0.5) / np.log(beyond))
    within = np.where(zero, np.copysign(near, u), u)
    added = np.rint(within + COSINES @ _blocks(change) @ COSINES.T / steps) * steps
    moved = COSINES.T @ added @ COSINES
    return np.asarray(moved.swapaxes(2, 3).reshape(old.shape), np.float32)


def _blocks(planes: F32) -> F32:
    """Return planes (N, H, W) as their blocks, (N, H / 8, W / 8, 8, 8)."""
    count, height, width = planes.shape
    return planes.reshape(count, height // 8, 8, width // 8, 8).swapaxes(2, 3)
