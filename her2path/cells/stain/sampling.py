"""Where the stain estimate looks: a deterministic sample of boxes, spread over the tissue."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from her2path.core.geometry import Box
from her2path.core.settings import StainSettings

__all__ = ["SAMPLE_UM", "sample_boxes"]

#: side of a sampled box, µm
SAMPLE_UM = 128.0
#: share of the boxes that go to the border of the tissue, where glass is in view
BORDER_SHARE = 0.125


def _order(seed: int, kind: str, rows: int, cols: int) -> npt.NDArray[np.uint64]:
    """Return a random-looking, reproducible number for every box of a grid."""
    key = hashlib.sha256(f"{kind}:{seed}:{rows}:{cols}".encode()).digest()
    rng = np.random.default_rng(np.frombuffer(key, np.uint32))
    return rng.integers(0, 2**63, size=(rows, cols), dtype=np.uint64)


def _cover(mask: npt.NDArray[np.bool_], rows: int, cols: int) -> npt.NDArray[np.float64]:
    """Return the share of tissue in every cell of a (rows, cols) grid laid over the mask."""
    total = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int64)
    total[1:, 1:] = mask.astype(np.int64).cumsum(0).cumsum(1)
    y = np.round(np.linspace(0, mask.shape[0], rows + 1)).astype(int)
    x = np.round(np.linspace(0, mask.shape[1], cols + 1)).astype(int)
    inside = total[y[1:]][:, x[1:]] - total[y[:-1]][:, x[1:]]
    inside = inside - total[y[1:]][:, x[:-1]] + total[y[:-1]][:, x[:-1]]
    area = np.maximum(1, np.outer(np.diff(y), np.diff(x)))
    return np.asarray(inside / area, dtype=np.float64)


def _spread(
    candidates: npt.NDArray[np.intp], rank: npt.NDArray[np.uint64], count: int
) -> npt.NDArray[np.intp]:
    """Pick ``count`` of the candidates, one from each of equal runs along a boustrophedon path."""
    if len(candidates) <= count:
        return candidates
    edges = np.linspace(0, len(candidates), count + 1).astype(int)
    picks = [a + int(np.argmin(rank[candidates[a:b]])) for a, b in pairwise(edges)]
    return candidates[picks]


def sample_boxes(
    mask: npt.NDArray[np.bool_], mask_mpp: float, mpp: float, settings: StainSettings
) -> list[Box]:
    """Choose boxes of level-0 pixels to estimate the stain from.

    Parameters
    ----------
    mask : bool (h, w)
        Tissue, its origin at the level-0 origin.
    mask_mpp, mpp : float
        µm per pixel of the mask and of level 0.
    settings : StainSettings
        ``sample_tiles`` and ``seed``.

    Returns
    -------
    list of Box
        At most ``sample_tiles`` boxes of about 128 µm, sorted; the same for the same arguments.
        One in eight lies on the tissue's border, so that glass is in view. Empty where there is
        no tissue.
    """
    side = max(64, round(SAMPLE_UM / mpp / 16) * 16)
    width, height = round(mask.shape[1] * mask_mpp / mpp), round(mask.shape[0] * mask_mpp / mpp)
    rows, cols = max(1, height // side), max(1, width // side)
    cover = _cover(
        mask[: round(rows * side * mpp / mask_mpp), : round(cols * side * mpp / mask_mpp)],
        rows,
        cols,
    )
    inner = cover >= min(0.6, float(cover.max()) * 0.8)
    inner &= cover > 0
    border = (cover > 0.05) & (cover < 0.5) & ~inner
    count = settings.sample_tiles
    edge = _choose(border, "border", max(1, round(count * BORDER_SHARE)), settings.seed)
    body = _choose(inner, "tissue", count - len(edge), settings.seed)
    boxes = [
        Box(
            c * side,
            r * side,
            min((c + 1) * side, max(width, 1)),
            min((r + 1) * side, max(height, 1)),
        )
        for r, c in body + edge
    ]
    return sorted(boxes, key=lambda b: (b.y0, b.x0))


def _choose(
    allowed: npt.NDArray[np.bool_], kind: str, count: int, seed: int
) -> list[tuple[int, int]]:
    """Return (row, column) of up to ``count`` allowed cells, spread along a winding path."""
    rows, cols = allowed.shape
    index = np.arange(rows * cols).reshape(rows, cols)
    index[1::2] = index[1::2, ::-1]
    path = index.ravel()
    candidates = path[allowed.ravel()[path]]
    picks = _spread(candidates, _order(seed, kind, rows, cols).ravel(), count)
    return [(int(i) // cols, int(i) % cols) for i in picks]
