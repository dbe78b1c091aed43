"""Pass 1: what the pixels say about the membrane, ray by ray."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from her2path.cells import Borders, Contours
from her2path.membrane import _kernels, _looks
from her2path.membrane._inputs import PLACES
from her2path.membrane._network import LOOK_TAPS, LOOKS
from her2path.membrane.columns import pack
from her2path.membrane.weights import weights
from her2path.schema import OUTLINE_RAYS
from her2path.settings import MembraneSettings

__all__ = ["looks_of", "measure_rays", "profiles"]

F32 = NDArray[np.float32]


def measure_rays(
    rgb: NDArray[np.uint8],
    luts: NDArray[np.float32],
    factor: int,
    mpp: float,
    nuclei: Contours,
    borders: Borders,
    settings: MembraneSettings,
    wanted: NDArray[np.bool_] | None = None,
) -> dict[str, NDArray[np.generic]]:
    """Measure the DAB line along each cell's border at the slide's finest level.

    Parameters
    ----------
    rgb : (H, W, 3) uint8
        Level-0 block; its first pixel is the first of the analysis pixel (0, 0).
    luts : (2, 3, 256) float32
        OD of hematoxylin and of DAB of a grey level in each channel: the pixel's is their sum.
    factor : int
        Level-0 pixels along one analysis pixel.
    mpp : float
        µm per level-0 pixel.
    nuclei : Contours
        N nuclei, analysis pixels.
    borders : Borders
        Their cells' borders, see `her2path.cells.grow_cells`.
    settings : MembraneSettings
        Nothing of it decides what is measured; cut-offs come later.
    wanted : (N,) bool, optional
        Cells to be measured (all by default); the others read 0.

    Returns
    -------
    dict
        The `RAW_COLUMNS`, (N,) or (N, 48).

    Raises
    ------
    ValueError
        Where the shapes do not fit.
    """
    del settings
    if rgb.ndim != 3 or rgb.shape[2] != 3 or luts.shape != (2, 3, 256):
        raise ValueError(f"rgb (H, W, 3) and luts (2, 3, 256), not {rgb.shape} and {luts.shape}")
    every = np.ones(nuclei.x.size, np.bool_) if wanted is None else wanted
    rays, cells, seen = _measure(rgb, luts, (factor, mpp), nuclei, borders.radii, every)
    names = ("line_r", "line_mass", "line_crest", "line_width", "line_ridge", "line_edge")
    found: dict[str, NDArray[np.generic]] = {
        name: pack(name, values) for name, values in zip(names, rays, strict=True)
    }
    found["line_kind"] = (borders.kind + 4 * borders.behind).astype(np.uint8)
    found["line_look"] = looks_of(seen, cells[1], every)
    found["cytoplasm_od"], found["line_noise"] = cells
    found["line_mpp"] = np.full(nuclei.x.size, mpp, np.float32)
    return found


def profiles(
    rgb: NDArray[np.uint8],
    luts: NDArray[np.float32],
    factor: int,
    mpp: float,
    nuclei: Contours,
    radii: NDArray[np.float32],
) -> F32:
    """Return what the looks are made of: both stains' OD across the border, (N, 2, 24, 13).

    Hematoxylin and DAB, inside first, 0.5 µm apart; the parameters are those of `measure_rays`, and
    the border's ``radii`` (N, 48).
    """
    return _measure(rgb, luts, (factor, mpp), nuclei, radii, np.ones(nuclei.x.size, np.bool_))[2]


def _measure(
    rgb: NDArray[np.uint8],
    luts: NDArray[np.float32],
    scale: tuple[int, float],
    nuclei: Contours,
    ring: NDArray[np.floating],
    wanted: NDArray[np.bool_],
) -> tuple[list[F32], list[F32], F32]:
    """Return the columns a ray (N, 48), those a cell (N,), and the profiles (N, 2, 24, 13)."""
    n = nuclei.x.size
    rays = [np.zeros((n, OUTLINE_RAYS), np.float32) for _ in range(6)]
    cells = [np.zeros(n, np.float32) for _ in range(2)]
    seen = np.zeros((n, 2, PLACES, LOOK_TAPS), np.float32)
    if n and rgb.size:
        _kernels.measure(
            np.ascontiguousarray(rgb),
            np.ascontiguousarray(luts, np.float32),
            (int(scale[0]), float(scale[1])),
            (
                nuclei.x.astype(np.float64),
                nuclei.y.astype(np.float64),
                np.ascontiguousarray(nuclei.radii, np.float32),
            ),
            wanted,
            np.ascontiguousarray(ring, np.float32),
            (*rays, *cells, seen),
        )
    return rays, cells, seen


def looks_of(
    seen: NDArray[np.float32], noise: NDArray[np.float32], wanted: NDArray[np.bool_] | None = None
) -> NDArray[np.int8]:
    """Return the column ``line_look`` of `profiles` and ``line_noise``; 0 where not ``wanted``."""
    out = np.zeros((seen.shape[0], PLACES * LOOKS), np.int8)
    every = np.ones(seen.shape[0], np.bool_) if wanted is None else wanted
    _looks.boil_down(seen, noise.astype(np.float32), weights().look, every, out)
    return out
