"""Patches: cut from a slide at one pixel size, and turned into the planes a network sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from her2path.cells import stain
from her2path.cells.stain import StainModel
from her2path.core.errors import InputError, ManifestError
from her2path.core.geometry import Box

__all__ = ["CHANNELS", "NORMALISATION", "Patches", "Read", "Window", "cut", "join", "planes"]

Read = Callable[[Box], NDArray[np.uint8]]
#: what a network may be given, and how many planes that is
CHANNELS = {"h_dab": 2, "od": 3}
#: level-0 pixels of a side that are read at once, and patches of them that are handed on at once
READ_PX, AT_ONCE = 2048, 256
#: a slide may be this much coarser than the model's pixel size
COARSER = 1.12
#: optical density is cut to this range, then multiplied: see `planes`
OD_RANGE = (-0.1, 2.0)
OD_SCALE = 2.0
#: how pixels become input, as a model card tells it
NORMALISATION: dict[str, Any] = {"od_range": list(OD_RANGE), "scale": OD_SCALE}


@dataclass(frozen=True)
class Window:
    """What a patch shows: ``patch_px`` pixels a side of ``mpp`` µm."""

    patch_px: int = 128
    mpp: float = 0.5

    @property
    def side_um(self) -> float:
        """Side in µm."""
        return self.patch_px * self.mpp

    def source_px(self, mpp: float) -> int:
        """Return the side in pixels of ``mpp`` µm.

        Raises
        ------
        InputError
            Where those are coarser than the model's.
        """
        if mpp > self.mpp * COARSER:
            raise InputError(
                f"the image has {mpp:.3g} µm/px, and the CNN was made for {self.mpp:.3g} µm/px",
                "Scan finer, correct the pixel size, or train a model for this one",
            )
        return max(1, round(self.side_um / mpp))


@dataclass(frozen=True)
class Patches:
    """Labelled patches of one `Window`.

    ``rgb`` uint8 (N, P, P, 3); ``label`` int64 (N,) 0..3; ``case`` and ``scanner`` str (N,);
    ``stain`` int64 (N,) into ``stains``; ``case_score``: the score of whole cases, where known.
    """

    rgb: NDArray[np.uint8]
    label: NDArray[np.int64]
    case: NDArray[np.str_]
    scanner: NDArray[np.str_]
    stain: NDArray[np.int64]
    stains: tuple[StainModel, ...]
    window: Window
    case_score: dict[str, int]
    source: str

    def __len__(self) -> int:
        return len(self.rgb)


def join(parts: Sequence[Patches]) -> Patches:
    """Put patches of several slides together.

    Raises
    ------
    ManifestError
        Where there are none.
    """
    kept = [p for p in parts if len(p)]
    if not kept:
        raise ManifestError("there is not a single patch to train on", "Check the manifest")
    first = np.cumsum([0, *(len(p.stains) for p in kept[:-1])])
    return Patches(
        np.concatenate([p.rgb for p in kept]),
        np.concatenate([p.label for p in kept]),
        np.concatenate([p.case for p in kept]),
        np.concatenate([p.scanner for p in kept]),
        np.concatenate([p.stain + k for p, k in zip(kept, first, strict=True)]),
        tuple(s for p in kept for s in p.stains),
        kept[0].window,
        {k: v for p in kept for k, v in p.case_score.items()},
        "; ".join(dict.fromkeys(p.source for p in kept)),
    )


def cut(
    read: Read, centres_px: NDArray[Any], mpp: float, window: Window
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Cut a patch around every centre, in groups that are read at once.

    Parameters
    ----------
    read : callable
        Level-0 pixels of a box; boxes may reach beyond the slide.
    centres_px : float (N, 2)
        x, y in level-0 pixels.
    mpp : float
        µm per level-0 pixel.
    window : Window
        What a patch shows.

    Yields
    ------
    rows : int64 (n,)
        Which centres.
    rgb : uint8 (n, P, P, 3)
        Area-averaged to the window's pixel size. A patch depends on its centre alone.

    Raises
    ------
    InputError
        Where the slide's pixels are too coarse.
    """
    side = window.source_px(mpp)
    if not len(centres_px):
        return
    corner = np.floor(np.asarray(centres_px, np.float64)).astype(np.int64) - side // 2
    tile = np.floor_divide(corner, READ_PX)
    order = np.lexsort((corner[:, 0], corner[:, 1], tile[:, 0], tile[:, 1]))
    edges = np.flatnonzero(np.any(np.diff(tile[order], axis=0) != 0, axis=1)) + 1
    for rows in np.split(order, edges):
        low, high = corner[rows].min(axis=0), corner[rows].max(axis=0) + side
        pixels = read(Box(int(low[0]), int(low[1]), int(high[0]), int(high[1])))
        for some in np.split(rows, range(AT_ONCE, len(rows), AT_ONCE)):
            out = np.empty((len(some), window.patch_px, window.patch_px, 3), np.uint8)
            for i, (x, y) in enumerate(corner[some] - low):
                out[i] = shrink(pixels[y : y + side, x : x + side], window.patch_px)
            yield some, out


def shrink(rgb: NDArray[np.uint8], patch_px: int) -> NDArray[np.uint8]:
    """Return an image resized to ``patch_px`` a side by area averaging."""
    if rgb.shape[:2] == (patch_px, patch_px):
        return rgb
    small = cv2.resize(rgb, (patch_px, patch_px), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def planes(rgb: NDArray[np.uint8], model: StainModel, channels: str) -> NDArray[np.float32]:
    """Return the planes that a network sees.

    Parameters
    ----------
    rgb : uint8 (N, P, P, 3)
        Patches of one slide.
    model : StainModel
        Its white point and stain vectors.
    channels : {"h_dab", "od"}
        Hematoxylin and DAB, or the red, green and blue optical density.

    Returns
    -------
    float32 (N, C, P, P)
        Optical density cut to `OD_RANGE`, times `OD_SCALE`.
    """
    n, p = rgb.shape[0], rgb.shape[1]
    if channels == "h_dab":
        h, d = stain.unmix(rgb.reshape(n * p, p, 3), model)
        both = np.stack([h.reshape(n, p, p), d.reshape(n, p, p)], axis=1)
    else:
        grey = np.maximum(np.arange(256.0), 1.0)
        table = np.log10(np.array(model.white_point)[:, None] / grey[None]).astype(np.float32)
        both = np.stack([table[k][rgb[..., k]] for k in range(3)], axis=1)
    return np.asarray(np.clip(both, *OD_RANGE) * np.float32(OD_SCALE), np.float32)
