"""Pass 1: what the pixels say about the membrane, ray by ray."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from her2path.cells import Borders, Contours
from her2path.membrane import _kernels
from her2path.membrane.columns import pack
from her2path.schema import OUTLINE_RAYS
from her2path.settings import MembraneSettings

__all__ = ["measure_rays"]


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
    luts : (3, 256) float32
        DAB OD of a grey level in each channel: the pixel's DAB OD is their sum.
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
    if rgb.ndim != 3 or rgb.shape[2] != 3 or luts.shape != (3, 256):
        raise ValueError(f"rgb (H, W, 3) and luts (3, 256), not {rgb.shape} and {luts.shape}")
    n = nuclei.x.size
    rays = [np.zeros((n, OUTLINE_RAYS), np.float32) for _ in range(6)]
    cells = [np.zeros(n, np.float32) for _ in range(2)]
    if n and rgb.size:
        _kernels.measure(
            np.ascontiguousarray(rgb),
            np.ascontiguousarray(luts, np.float32),
            (int(factor), float(mpp)),
            (
                nuclei.x.astype(np.float64),
                nuclei.y.astype(np.float64),
                np.ascontiguousarray(nuclei.radii, np.float32),
            ),
            np.ones(n, np.bool_) if wanted is None else wanted,
            np.ascontiguousarray(borders.radii, np.float32),
            (*rays, *cells),
        )
    names = ("line_r", "line_mass", "line_crest", "line_width", "line_ridge", "line_edge")
    found: dict[str, NDArray[np.generic]] = {
        name: pack(name, values) for name, values in zip(names, rays, strict=True)
    }
    found["line_kind"] = (borders.kind + 4 * borders.behind).astype(np.uint8)
    found["cytoplasm_od"], found["line_noise"] = cells
    found["line_mpp"] = np.full(n, mpp, np.float32)
    return found
