"""White point and stain vectors from a sample of tiles, with guards.

A Macenko-type estimate (Macenko et al. 2009, doi:10.1109/ISBI.2009.5193250) looks for the two
extreme directions of optical density. With little DAB its second extreme is noise, so each stain
is estimated from its own cone of pixels, as a robust median, and is accepted only where enough
pixels support it and the pair is plausible for hematoxylin and DAB.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from her2path.cells.stain.model import StainModel, Vector, angle_deg, unit
from her2path.cells.white import glass_level, optical_density
from her2path.core.flags import flag
from her2path.core.geometry import analysis_factor
from her2path.core.results import QcFlag
from her2path.core.settings import StainSettings

__all__ = ["estimate", "reduce_tiles", "stained_pixels"]

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

#: pixels kept for the estimate
MOST_PIXELS = 1_500_000
#: paler pixels have no reliable direction (norm of the OD vector)
LEAST_OD = 0.12
#: darker grey levels are bent by stray light and clipping: strong DAB turns to black
DARKEST = 50
#: strongest over weakest DAB that a slope can be read from
LEAST_RANGE = 1.6
#: pixels that a stain needs, absolute and as a share of the sample
ENOUGH_PIXELS = 400
ENOUGH_SHARE = 0.0004
#: least angle between the vectors, degrees, and largest red part of DAB
LEAST_ANGLE = 22.0
MOST_DAB_RED = 0.40
#: no DAB takes less red, or less blue, than this: the colours themselves are then in doubt
LEAST_DAB_RED, LEAST_DAB_BLUE = 0.08, 0.5
#: farthest from the usual vectors, degrees
FARTHEST = 25.0


@dataclass(frozen=True)
class _Cone:
    """One stain's estimate: its direction (None where refused) and its support in pixels."""

    vector: Vector | None
    pixels: int
    #: refused because no stain can have it
    impossible: bool = False


def reduce_tiles(samples: list[Pixels], mpp: float) -> list[Pixels]:
    """Average tiles to about 0.5 µm per pixel, which also evens out chroma subsampling."""
    f = analysis_factor(mpp)
    out = []
    for tile in samples:
        h, w = tile.shape[0] // f * f, tile.shape[1] // f * f
        if not h or not w:
            continue
        if f == 1:
            out.append(tile)
            continue
        out.append(_block_mean(tile[:h, :w], f))
    return out


def _block_mean(tile: Pixels, f: int) -> Pixels:
    """Average f x f pixels of a tile (h, w, 3), whole blocks: ``(sum + f² // 2) // f²``."""
    h, w = tile.shape[:2]
    # rows first, then one colour at a time: long runs, where numpy is quick
    rows = tile.reshape(h // f, f, w * 3).sum(axis=1, dtype=np.uint16 if f <= 16 else np.uint32)
    mean = np.empty((h // f, w // f, 3), np.uint8)
    for c in range(3):
        total = sum(rows[:, 3 * dx + c :: 3 * f] for dx in range(f))
        mean[..., c] = (total + f * f // 2) // (f * f)
    return mean


def stained_pixels(tiles: list[Pixels], white: Vector) -> tuple[Floats, int]:
    """Return the OD of pixels that bear colour information, (n, 3), and how many were seen."""
    if not tiles:
        return np.empty((0, 3)), 0
    pixels = np.concatenate([t.reshape(-1, 3) for t in tiles])
    step = max(1, -(-len(pixels) // MOST_PIXELS))
    pixels = pixels[::step]
    od = optical_density(pixels, white)
    # column by column: numpy is slow along an axis of three
    r, g, b = od.T
    norm = np.sqrt(r * r + g * g + b * b)
    keep = (norm >= LEAST_OD) & (np.minimum(np.minimum(r, g), b) > -0.02)
    for c in range(3):
        keep &= pixels[:, c] >= DARKEST
    return od[keep].astype(np.float64), len(pixels)


def estimate(samples: list[Pixels], mpp: float, settings: StainSettings) -> StainModel:
    """Estimate a slide's white point and stain vectors.

    Parameters
    ----------
    samples : list of uint8 (h, w, 3)
        Level-0 tiles from the tissue and its border (`sample_boxes`).
    mpp : float
        µm per pixel of the tiles.
    settings : StainSettings
        Fixed values in it are honoured; its vectors stand in where an estimate is refused.

    Returns
    -------
    StainModel
        ``method`` is ``fixed`` where the settings say so, ``fallback`` where neither vector could
        be estimated, else ``estimated``.
    """
    tiles = reduce_tiles(samples, mpp)
    found = glass_level(tiles)
    white = settings.white_point or found.level
    flags = [] if found.glass or settings.white_point else [flag("WHITE_FALLBACK")]
    evidence = {"mpp": mpp, "glass_blocks": float(found.blocks), "median_grey": found.median}
    h0, d0 = unit(settings.hematoxylin), unit(settings.dab)
    if settings.method == "fixed":
        return StainModel(white, h0, d0, "fixed", tuple(flags), evidence)
    od, seen = stained_pixels(tiles, white)
    h, d, more = _vectors(od, seen, h0, d0)
    method = "estimated" if h.vector or d.vector else "fallback"
    evidence |= {
        "pixels": float(seen),
        "hematoxylin_pixels": float(h.pixels),
        "dab_pixels": float(d.pixels),
        "impossible": float(d.impossible),
        "angle_deg": round(angle_deg(h.vector or h0, d.vector or d0), 2),
    }
    return StainModel(white, h.vector or h0, d.vector or d0, method, tuple(flags + more), evidence)


def _vectors(od: Floats, seen: int, h0: Vector, d0: Vector) -> tuple[_Cone, _Cone, list[QcFlag]]:
    """Estimate both vectors, refuse what is not plausible, and say so."""
    need = max(ENOUGH_PIXELS, int(ENOUGH_SHARE * seen))
    h = _cone(od, h0, d0, need)
    d = _cone(od, d0, h.vector or h0, need)
    if d.vector:
        d = _Cone(_slope(od, d0, h.vector or h0) or d.vector, d.pixels)
    if d.vector and (
        d.vector[0] > MOST_DAB_RED or angle_deg(h.vector or h0, d.vector) < LEAST_ANGLE
    ):
        d = _Cone(None, d.pixels)
    if d.vector and (d.vector[0] < LEAST_DAB_RED or d.vector[2] < LEAST_DAB_BLUE):
        d = _Cone(None, d.pixels, impossible=True)
    if h.vector and not d.vector and angle_deg(h.vector, d0) < LEAST_ANGLE:
        h = _Cone(None, h.pixels)
    flags = []
    if not h.vector and not d.vector:
        flags.append(flag("STAIN_FALLBACK"))
    elif not h.vector:
        flags.append(flag("STAIN_H_FALLBACK"))
    elif not d.vector:
        flags.append(flag("STAIN_DAB_FALLBACK"))
    return h, d, flags


def _cone(od: Floats, own: Vector, other: Vector, need: int) -> _Cone:
    """Estimate one stain's direction from the pixels that it dominates.

    Of the pixels nearer to ``own`` than to ``other``, the strong half is taken, and of it the half
    that leans away from ``other``, since mixtures lean towards it; again with the new direction.
    """
    vector, count = own, 0
    for _ in range(3):
        mine, theirs, rest = (od @ _amounts(vector, other)).T
        pure = (mine >= LEAST_OD) & (theirs < 0.5 * mine) & (np.abs(rest) < 0.35 * mine)
        count = int(pure.sum())
        if count < need:
            return _Cone(None, count)
        strong = pure & (mine >= np.quantile(mine[pure], 0.5))
        lean = theirs[strong] / mine[strong]
        low, high = np.quantile(lean, [0.05, 0.5])
        chosen = od[strong][(lean >= low) & (lean <= high)]
        direction = chosen / np.linalg.norm(chosen, axis=1, keepdims=True)
        vector = unit(np.maximum(np.median(direction, axis=0), 0.0))
        if angle_deg(vector, own) > FARTHEST:
            return _Cone(None, count)
    return _Cone(_rounded(vector), count)


def _slope(od: Floats, start: Vector, other: Vector) -> Vector | None:
    """Return the direction in which OD grows as ``start`` grows, or None where it hardly varies.

    A membrane always lies over some counterstained cytoplasm, so that even the brownest pixel leans
    towards hematoxylin. That share is about constant: it drops out of the slope over strength.
    """
    vector = start
    for _ in range(3):
        mine, theirs, rest = (od @ _amounts(vector, other)).T
        brown = (mine >= LEAST_OD) & (theirs < 0.8 * mine) & (np.abs(rest) < 0.35 * mine)
        if not brown.any():
            return None
        mine, theirs, rest = mine[brown], theirs[brown], rest[brown]
        low, high = np.quantile(mine, [0.3, 0.99])
        low = max(low, 0.15)
        if high < LEAST_RANGE * low:
            return None
        edges = np.linspace(low, high, 9)
        bins = [np.flatnonzero((mine >= a) & (mine < b)) for a, b in pairwise(edges)]
        bins = [b for b in bins if len(b) >= 40]
        if len(bins) < 4:
            return None
        x = [mine[b].mean() for b in bins]
        # the low quantile looks past nuclei under the stain
        lean = [np.quantile(theirs[b], 0.2) for b in bins]
        off = [np.median(rest[b][theirs[b] <= np.median(theirs[b])]) for b in bins]
        weight = [float(np.sqrt(len(b))) for b in bins]
        step = np.polyfit(x, lean, 1, w=weight)[0] * np.array(other)
        normal = np.cross(vector, other)
        step = step + np.polyfit(x, off, 1, w=weight)[0] * normal / np.linalg.norm(normal)
        vector = unit(np.maximum(np.array(vector) + step, 0.0))
    return _rounded(vector)


def _amounts(a: Vector, b: Vector) -> Floats:
    """Return the matrix from RGB OD to amounts of ``a``, ``b`` and their perpendicular."""
    rest = np.cross(a, b)
    return np.linalg.inv(np.stack([a, b, rest / np.linalg.norm(rest)]))


def _rounded(vector: Vector) -> Vector:
    """Round to 1e-5, so that the last bits of a median's mean do not travel."""
    r, g, b = (round(x, 5) for x in vector)
    return r, g, b
