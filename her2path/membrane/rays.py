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
    n = nuclei.x.size
    rays = [np.zeros((n, OUTLINE_RAYS), np.float32) for _ in range(6)]
    cells = [np.zeros(n, np.float32) for _ in range(2)]
    every = np.ones(n, np.bool_) if wanted is None else wanted
    if n and rgb.size:
        _kernels.measure(
            np.ascontiguousarray(rgb),
            np.ascontiguousarray(luts[1], np.float32),
            (int(factor), float(mpp)),
            (
                nuclei.x.astype(np.float64),
                nuclei.y.astype(np.float64),
                np.ascontiguousarray(nuclei.radii, np.float32),
            ),
            every,
            np.ascontiguousarray(borders.radii, np.float32),
            (*rays, *cells),
        )
    names = ("line_r", "line_mass", "line_crest", "line_width", "line_ridge", "line_edge")
    found: dict[str, NDArray[np.generic]] = {
        name: pack(name, values) for name, values in zip(names, rays, strict=True)
    }
    found["line_kind"] = (borders.kind + 4 * borders.behind).astype(np.uint8)
    seen = profiles(rgb, luts, factor, mpp, (nuclei.x, nuclei.y), borders.radii, every)
    found["line_look"] = looks_of(seen, cells[1], every)
    found["cytoplasm_od"], found["line_noise"] = cells
    found["line_mpp"] = np.full(n, mpp, np.float32)
    return found


def profiles(
    rgb: NDArray[np.uint8],
    luts: NDArray[np.float32],
    factor: int,
    mpp: float,
    at: tuple[NDArray[np.floating], NDArray[np.floating]],
    radii: NDArray[np.floating],
    wanted: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """Sample both stains across the border: hematoxylin and DAB OD, (N, 2, 24, 13), inside first.

    ``at`` (x, y) and the border's ``radii`` (N, 48) in analysis pixels, the rest as in
    `measure_rays`; cells not ``wanted`` read 0.
    """
    n = at[0].size
    out = np.zeros((n, 2, PLACES, LOOK_TAPS), np.float32)
    if n and rgb.size:
        _looks.read_profiles(
            np.ascontiguousarray(rgb),
            np.ascontiguousarray(luts, np.float32),
            (int(factor), float(mpp)),
            (at[0].astype(np.float64), at[1].astype(np.float64)),
            wanted,
            np.ascontiguousarray(radii, np.float32),
            out,
        )
    return out


def looks_of(
    seen: NDArray[np.float32], noise: NDArray[np.float32], wanted: NDArray[np.bool_] | None = None
) -> NDArray[np.int8]:
    """Return the column ``line_look`` of `profiles` and ``line_noise``; 0 where not ``wanted``."""
    out = np.zeros((seen.shape[0], PLACES * LOOKS), np.int8)
    every = np.ones(seen.shape[0], np.bool_) if wanted is None else wanted
    _looks.boil_down(seen, noise.astype(np.float32), weights().look, every, out)
    return out
