"""Cells: what the finder found, read one by one in polar form.

The reader says of every find what kind of cell it is, where its nucleus and its border run, and
where its own membrane is stained. How much stain lies there is measured afterwards, along the
border, at the slide's finest level.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from her2path.cells.reading.finder import MARGIN_UM, Core, Peaks, find_peaks
from her2path.cells.reading.inputs import (
    PLACES,
    RADII,
    RADIUS_UM,
    STEP_UM,
    WRAP,
    pack_planes,
    place_angles,
    sample_polar,
    to_channels,
)
from her2path.cells.reading.nets import BATCH, run_reader
from her2path.cells.rings import RAYS
from her2path.core.geometry import FIXED
from her2path.core.settings import NucleiSettings

__all__ = ["HALO_UM", "KINDS", "Cells", "read_cells"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

#: kinds, in the order of the net's logits
KINDS = ("tumour", "other", "nothing")
#: context that a cell needs, µm: what the finder looks at, and its own patch
HALO_UM = max(MARGIN_UM, RADIUS_UM) + 3.0
#: finds count above this probability of a nucleus, over the settings' sensitivity
SURE = 0.30
#: cells that are sampled and read at a time
SOME = 2 * BATCH
#: bins on either side of the likeliest one that an edge's radius is the mean of
AROUND = 2


@dataclass(frozen=True)
class Cells:
    """N cells of a block, analysis pixels unless a name ends in ``um``.

    Attributes
    ----------
    x, y : float64 (N,)
        Centres, local to the block, multiples of 1/16 px.
    nucleus, border : float32 (N, 48)
        Radii, px; ray k at 2 pi k / 48 clockwise on screen.
    own : float32 (N, 24)
        Probability that the own membrane is stained, by place.
    kind : float32 (N, 3)
        Probabilities of tumour, other, nothing.
    heat : float32 (N,)
        Log odds of a nucleus.
    evidence : float32 (N,)
        Log odds of any staining.
    nucleus_area_um2, hematoxylin, dab, elongation : float32 (N,)
        Of the nucleus: area, mean OD of both stains, long over short axis.
    """

    x: F64
    y: F64
    nucleus: F32
    border: F32
    own: F32
    kind: F32
    heat: F32
    evidence: F32
    nucleus_area_um2: F32
    hematoxylin: F32
    dab: F32
    elongation: F32

    def __len__(self) -> int:
        """Return how many cells there are."""
        return len(self.x)

    def take(self, which: NDArray[np.intp] | NDArray[np.bool_]) -> Cells:
        """Return the chosen cells, by index or by mask."""
        return Cells(**{name: getattr(self, name)[which] for name in self.__dataclass_fields__})


def read_cells(
    planes: F32,
    mpp_a: float,
    origin: tuple[int, int],
    settings: NucleiSettings,
    wanted: Callable[[F64, F64], NDArray[np.bool_]] | None = None,
    core: Core | None = None,
) -> Cells:
    """Find and read the cells of a block.

    Parameters
    ----------
    planes : float32 (3, H, W)
        Hematoxylin, DAB, residual, OD, on the analysis plane.
    mpp_a : float
        µm per analysis pixel.
    origin : (int, int)
        Absolute analysis pixel (y, x) of pixel (0, 0).
    settings : NucleiSettings
        ``sensitivity``.
    wanted : callable, optional
        Takes centres x, y (N,), local analysis px, and tells which are to be read; all by default.
    core : ((int, int), (int, int)), optional
        Rows and columns of ``planes``, first and end, that hold all that are wanted.

    Returns
    -------
    Cells
        In the order of the finder's grid. Those within `HALO_UM` of the planes' edge depend on
        where the block was cut: the caller drops them.

    Raises
    ------
    ValueError
        For planes of another shape, or a pixel size that is not above 0.
    """
    if planes.ndim != 3 or planes.shape[0] != 3:
        raise ValueError(f"planes (3, H, W) are needed, not {planes.shape}")
    if not mpp_a > 0:
        raise ValueError(f"mpp_a is {mpp_a}, not above 0")
    share = min(SURE / settings.sensitivity, 0.95)
    found = find_peaks(planes, mpp_a, origin, float(np.log(share / (1.0 - share))), core)
    x, y = (_fixed(v, mpp_a, o) for v, o in ((found.x, origin[1]), (found.y, origin[0])))
    inside = (x >= 0) & (y >= 0) & (x < planes.shape[2]) & (y < planes.shape[1])
    if wanted is not None:
        inside &= wanted(x, y)
    found, x, y = found.take(inside), x[inside], y[inside]
    packed = pack_planes(planes)
    # some cells at a time: what is sampled stays in the processor's cache
    parts = [
        _read(packed, mpp_a, found.take(some), x[some], y[some])
        for some in (slice(k, k + SOME) for k in range(0, max(len(x), 1), SOME))
    ]
    names = Cells.__dataclass_fields__
    return Cells(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in names})


def _read(packed: F32, mpp_a: float, found: Peaks, x: F64, y: F64) -> Cells:
    """Return those of the finds that are cells, read."""
    around = np.concatenate([place_angles()[-WRAP:], place_angles(), place_angles()[:WRAP]])
    stains = sample_polar(packed, x, y, mpp_a, around)
    edges, own, verdict = run_reader(to_channels(stains), found.features)
    kind = _shares(verdict[:, :3])
    is_cell = kind[:, 2] < 0.5
    x, y, stains, kind = x[is_cell], y[is_cell], stains[is_cell], kind[is_cell]
    edges, own, verdict = edges[is_cell], own[is_cell], verdict[is_cell]
    nucleus = _radii(edges[:, 1])
    border = np.maximum(_radii(edges[:, 0]), nucleus + 0.3)
    inner = stains[:, :, WRAP : WRAP + PLACES]
    return Cells(
        x, y, _on_rays(nucleus) / np.float32(mpp_a), _on_rays(border) / np.float32(mpp_a),
        (1.0 / (1.0 + np.exp(-own))).astype(np.float32), kind, found.heat[is_cell],
        verdict[:, 3],
        *_measures(nucleus, inner),
    )  # fmt: skip


def _fixed(um: F64, mpp_a: float, origin: int) -> F64:
    """Return absolute µm as local pixels, in whole parts of a pixel."""
    return np.rint((um / mpp_a - 0.5) * FIXED) / FIXED - origin


def _shares(logits: F32) -> F32:
    high = logits.max(axis=1, keepdims=True) if len(logits) else logits
    e = np.exp(logits - high)
    return (e / ((e[:, :1] + e[:, 1:2]) + e[:, 2:3])).astype(np.float32)


def _radii(logits: F32) -> F32:
    """Return radii (N, 24), µm, of logits over the bins of every place (N, 24, 16).

    A place's likeliest bin is taken together with those of the places beside it, so that one
    place's doubt does not tear the ring; its radius is the mean over the bins around that one.
    """
    out = np.empty(logits.shape[:2], np.float32)
    p = np.exp(logits - logits.max(axis=2, keepdims=True)) if len(logits) else logits
    _ring_means(np.ascontiguousarray(p, np.float32), np.float32(2 * STEP_UM), out)
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _ring_means(p, bin_um, out):  # type: ignore[no-untyped-def]
    """Write the rings' radii; `p` are likelihoods over bins, of any scale, and are changed."""
    places, bins = p.shape[1], p.shape[2]
    mean = np.empty(places, np.float32)
    for n in range(p.shape[0]):
        for k in range(places):
            total = np.float32(0.0)
            for q in range(bins):
                total += p[n, k, q]
            for q in range(bins):
                p[n, k, q] /= total
        for k in range(places):
            here, back, on = p[n, k], p[n, (k + places - 1) % places], p[n, (k + 1) % places]
            best, top = np.float32(-1.0), 0
            for q in range(bins):
                value = np.float32(0.5) * here[q] + np.float32(0.25) * (back[q] + on[q])
                if value > best:
                    best, top = value, q
            moment, weight = np.float32(0.0), np.float32(0.0)
            for q in range(max(top - AROUND, 0), min(top + AROUND + 1, bins)):
                w = here[q] + np.float32(1e-6)
                moment += w * (np.float32(q) + np.float32(0.5))
                weight += w
            mean[k] = bin_um * moment / weight
        for k in range(places):
            beside = mean[(k + places - 1) % places] + mean[(k + 1) % places]
            out[n, k] = np.float32(0.5) * mean[k] + np.float32(0.25) * beside


def _on_rays(places: F32) -> F32:
    """Return radii at 24 places on 48 rays."""
    out = np.empty((len(places), RAYS), np.float32)
    out[:, ::2] = places
    out[:, 1::2] = np.float32(0.5) * (places + np.roll(places, -1, axis=1))
    return out


def _measures(nucleus: F32, stains: F32) -> tuple[F32, F32, F32, F32]:
    """Return area (µm²), mean hematoxylin and DAB (OD) and elongation of nuclei (N, 24), µm."""
    wedge = np.float32(0.5 * np.sin(2 * np.pi / PLACES))
    area = wedge * (nucleus * np.roll(nucleus, -1, axis=1)).sum(axis=1)
    radius = (np.arange(RADII, dtype=np.float32) + np.float32(0.5)) * np.float32(STEP_UM)
    # a sample stands for an area that grows with its radius
    weight = radius * (radius < nucleus[..., None]) + np.float32(1e-6)
    total = weight.sum(axis=(1, 2))
    h, d = ((stains[:, k] * weight).sum(axis=(1, 2)) / total for k in (0, 1))
    c, s = np.cos(place_angles()), np.sin(place_angles())
    r4 = nucleus.astype(np.float64) ** 4
    xx, yy, xy = (r4 * c * c).sum(axis=1), (r4 * s * s).sum(axis=1), (r4 * c * s).sum(axis=1)
    spread = np.hypot(0.5 * (xx - yy), xy)
    long, short = 0.5 * (xx + yy) + spread, 0.5 * (xx + yy) - spread
    elongation = np.sqrt(long / np.maximum(short, 1e-9))
    return tuple(v.astype(np.float32) for v in (area, h, d, elongation))
